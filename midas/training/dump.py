"""What a search leaves of its weights: arch.npz, those of every validation image; example.npz, one image's maps, for figure 1."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from midas.images.loader import in_order
from midas.methods.passes import Batch
from midas.supernet import Supernet
from midas.supernet.cell import NodeView
from midas.training.searching import Searching


@torch.no_grad()
def write_dump(path: Path, supernet: Supernet, batches: Iterable[Batch], labels: Tensor, classes: list[str]) -> float:
    """Write p and pi of every image of the validation half, unaugmented, as the supernet evaluates them (arch.npz).

    Args:
        path: of the dump.
        supernet: that was searched.
        batches: all images of the half, in order.
        labels: theirs.
        classes: names of the classes.

    Arrays: p float32 [images, cells, edges, operations], pi float32 [images, cells, pairs] where there are pairs, labels
    [images], classes [classes] (their names), kinds [cells], operations [operations], edges [edges, 2] and offered
    [cells, edges, operations]. A static method has one row and the label -1.

    Returns:
        Accuracy of the supernet on these images in percent.
    """
    rows, correct = [], 0
    for x, y in batches:
        correct += int((supernet(x).argmax(1) == y).sum())
        rows.append(supernet.mixture())
    images, labels = len(labels), labels.cpu()
    if not supernet.cells[0].mixing.attends:  # the same weights for all images
        settled = supernet.settled()
        rows, labels = rows[:1] if settled is None else [(settled, None)], torch.tensor([-1])
    space = supernet.space
    specs = [space.cells[kind] for kind in supernet.kinds]
    arrays = {
        "p": torch.cat([p for p, _ in rows]).float().cpu().numpy(),
        "labels": labels.numpy(),
        "classes": np.array(classes),
        "kinds": np.array(supernet.kinds),
        "operations": np.array(space.operations),
        "edges": np.array(specs[0].edges),
        "offered": np.array([[[o in ops for o in space.operations] for ops in spec.candidates] for spec in specs]),
    }
    pairs = [pi for _, pi in rows if pi is not None]
    if pairs:
        arrays["pi"] = torch.cat(pairs).float().cpu().numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return 100 * correct / images


@torch.no_grad()
def write_example(path: Path, search: Searching) -> None:
    """Write the maps and weights of the last node of the first cell for the first validation image (example.npz)."""
    supernet, valid = search.bilevel.supernet, search.valid
    views: list[NodeView] = []
    supernet.cells[0].observer = views.append
    x, _ = next(in_order(valid, search.statistics, search.run.search.batch_size))
    whole, supernet.whole = supernet.whole, True
    supernet(x)
    supernet.cells[0].observer, supernet.whole = None, whole
    view, spec = views[-1], supernet.cells[0].spec
    slots = supernet.cells[0].mixing.slots[view.node]
    patches = view.weights.product if view.weights.patches is None else view.weights.patches[0]
    patches = patches.flatten(1)[:, slots.mapped]
    np.savez(
        path,
        image=valid.pixels[0].cpu().numpy(),
        label=valid.labels[0].cpu().numpy(),
        cell=0,
        node=view.node,
        operations=np.array([operation for _, operation in view.keys]),
        sources=np.array([spec.edges[edge][0] for edge, _ in view.keys]),
        maps=torch.stack([c.map[0].float().mean(0) for c in view.candidates]).cpu().numpy(),
        grid=np.array(view.weights.grid),
        patch_p=patches.unflatten(0, view.weights.grid).cpu().numpy(),
        p=view.weights.product[0].flatten()[slots.mapped].cpu().numpy(),
        output=view.output[0].float().mean(0).cpu().numpy(),
    )
