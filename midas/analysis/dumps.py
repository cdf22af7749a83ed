"""What does a dump hold? The mixing weights of a search (arch.npz), and what one node made of one image (example.npz)."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from midas.analysis.results import reason


@dataclass(frozen=True)
class Dump:
    """The mixing weights of one search (`search/arch.npz`).

    Attributes:
        p: weights, float32 [images, cells, edges, operations].
        labels: class number of each image, [images].
        kinds: kind of each cell, [cells].
        operations: names, [operations].
        edges: source and target node of each edge, [edges, 2].
        offered: whether an edge offers an operation, [cells, edges, operations].
        classes: class names.
        moments: mean and standard deviation over all images [2, cells, edges, operations], where p holds but some of them
            (`midas.publish`); else None.
    """

    p: np.ndarray
    labels: np.ndarray
    kinds: list[str]
    operations: list[str]
    edges: np.ndarray
    offered: np.ndarray
    classes: list[str]
    moments: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """Mean of each weight over all images, float64 [cells, edges, operations]."""
        return self.p.mean(axis=0, dtype=np.float64) if self.moments is None else self.moments[0]

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each weight over all images, float64 [cells, edges, operations]."""
        if self.moments is not None:
            return self.moments[1]
        # one cell at a time: a whole dump in double precision is large
        return np.stack([self.p[:, cell].std(axis=0, dtype=np.float64) for cell in range(len(self.kinds))])

    @property
    def varies(self) -> np.ndarray:
        """Whether a weight is offered and differs between images, [cells, edges, operations]."""
        return self.offered & (self.p.min(axis=0) < self.p.max(axis=0))


@dataclass(frozen=True)
class Example:
    """What one node made of one image (`search/example.npz`); K candidates, a gh x gw grid of patches.

    Attributes:
        image: uint8 [3, H, W].
        label: class number.
        cell: index of the cell.
        node: the node in it.
        operations: operation of each candidate, [K].
        sources: source node of each candidate, [K].
        maps: candidate maps averaged over channels, [K, h, w].
        patch_p: weights in each patch, [gh, gw, K].
        p: their average, [K].
        output: the node's output averaged over channels, [h, w].
    """

    image: np.ndarray
    label: int
    cell: int
    node: int
    operations: list[str]
    sources: list[int]
    maps: np.ndarray
    patch_p: np.ndarray
    p: np.ndarray
    output: np.ndarray


def load_dump(path: Path) -> Dump:
    """Read `search/arch.npz`, whole or reduced.

    Raises:
        ValueError: the file is missing or damaged, or its arrays don't fit together.
    """
    a = _arrays(path, ("p", "labels", "kinds", "operations", "edges", "offered", "classes"), ("moments",))
    expected = (len(a["labels"]), len(a["kinds"]), len(a["edges"]), len(a["operations"]))
    moments = a.get("moments")
    if a["p"].shape != expected or a["offered"].shape != expected[1:]:
        raise ValueError(f"{path}: p is {list(a['p'].shape)}, but the other arrays ask for {list(expected)}")
    if moments is not None and moments.shape != (2, *expected[1:]):
        raise ValueError(f"{path}: moments are {list(moments.shape)}, but p asks for {[2, *expected[1:]]}")
    names = {key: a[key].tolist() for key in ("kinds", "operations", "classes")}
    offered = a["offered"].astype(bool)
    return Dump(p=a["p"], labels=a["labels"], edges=a["edges"], offered=offered, moments=moments, **names)


def load_example(path: Path) -> Example:
    """Read `search/example.npz`.

    Raises:
        ValueError: the file is missing or damaged, or its arrays don't fit together.
    """
    a = _arrays(path, tuple(Example.__annotations__))
    count = len(a["operations"])
    if a["maps"].shape[:1] != (count,) or a["patch_p"].shape[2:] != (count,) or a["p"].shape != (count,):
        raise ValueError(f"{path}: maps, patch_p and p don't have {count} candidates each")
    plain: dict[str, Any] = {key: a[key].tolist() for key in ("label", "cell", "node", "operations", "sources")}
    return Example(**plain, image=a["image"], maps=a["maps"], patch_p=a["patch_p"], p=a["p"], output=a["output"])


def load_classes(path: Path) -> list[str]:
    """The class names in `search/arch.npz`, without the weights.

    Raises:
        ValueError: the file is missing or damaged.
    """
    return _arrays(path, ("classes",))["classes"].tolist()


def _arrays(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise ValueError(f"lacks {', '.join(missing)}")
            return {name: file[name] for name in (*names, *optional) if name in file}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable dump: {reason(error)}") from error
