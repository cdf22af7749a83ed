"""Made-up dumps: by hand, or with modes, classes and groups that were planted."""

from __future__ import annotations

import numpy as np

from midas.analysis.dumps import Dump

ANIMALS, VEHICLES = ["bird", "cat", "deer", "dog", "frog", "horse"], ["car", "plane", "ship", "truck"]


GROUPS = {"animals": ANIMALS, "vehicles": VEHICLES}


def small_dump(p: np.ndarray, labels: list[int], offered: np.ndarray | None = None) -> Dump:
    _, cells, edges, operations = p.shape
    shape = cells, edges, operations
    return Dump(
        p=p.astype(np.float32),
        labels=np.array(labels),
        kinds=["cell"] * cells,
        operations=["none", "skip_connect"][:operations],
        edges=np.array([[0, edge + 1] for edge in range(edges)]),
        offered=np.ones(shape, bool) if offered is None else offered,
        classes=["cat", "dog", "ship"],
    )


def planted_dump(seed: int, modes: bool = False, classes: float = 0.0, groups: float = 0.0, images: int = 300) -> Dump:
    """Weights of ten classes, softmax over two operations per edge.

    Args:
        seed: of all draws.
        modes: whether a third of the edges has two modes, far apart.
        classes: strength of each class's own pattern.
        groups: strength of the pattern that the classes of a group share.
        images: how many.
    """
    draw = np.random.default_rng(seed)
    shape = 2, 15, 2
    labels = np.arange(images) % 10
    shared = groups * draw.normal(size=(2, *shape))[(np.arange(10) >= 6).astype(int)]
    logits = draw.normal(size=shape) + (shared + classes * draw.normal(size=(10, *shape)))[labels]
    weights = np.exp(logits + 0.5 * draw.normal(size=(images, *shape)))
    p = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    if modes:
        first = draw.choice([0.3, 0.7], size=(images, 2, 5)) + 0.05 * draw.normal(size=(images, 2, 5))
        p[:, :, ::3] = np.stack([first, 1 - first], axis=-1)
    edges = np.array([[0, edge + 1] for edge in range(15)])
    names = [*ANIMALS, *VEHICLES]
    return Dump(p, labels, ["cell"] * 2, ["none", "skip_connect"], edges, np.ones(shape, bool), names)
