"""The nine spaces of the DARTS-Bench-Suite: three shapes of network, each with three sets of operations.

Source: automl/ConfigurableOptimizer@13bde40e, scripts/benchsuite_experiments/benchsuite.py and src/confopt/searchspace/. Sizes of
the suite: wide has 18 channels and 4 cells, deep 7 and 18, the single cell 26 and 1. All of a space but its sizes stands here.
"""

from __future__ import annotations

from typing import Any

from midas.spaces.darts import OPERATIONS, edges_of, skeleton
from midas.spaces.space import CellSpec, Space

REGULAR = ("none", *OPERATIONS)
NO_SKIP = tuple(operation for operation in REGULAR if operation != "skip_connect")

_PAIR: dict[str, Any] = {"kinds": ("normal", "reduce"), "nodes": 4, "min_cells": 3}
_LONE: dict[str, Any] = {"kinds": ("reduce",), "nodes": 8, "outputs": 4, "max_cells": 1}
SHAPES = {"wide": _PAIR, "deep": _PAIR, "single_cell": _LONE}
"""Wide and deep networks have DARTS's cells and differ in their sizes; a single one is a reduction cell, half of it put out."""

OFFERED: dict[str, tuple[tuple[str, ...], bool]] = {
    "regular": (REGULAR, False),
    "no_skip": (NO_SKIP, False),
    "all_skip": (REGULAR, True),
}
"""What an edge offers, and whether a skip connection stands beside that."""


def _space(
    name: str,
    operations: tuple[str, ...],
    skips: bool,
    kinds: tuple[str, ...],
    nodes: int,
    outputs: int | None = None,
    **limits: int,
) -> Space:
    edges = edges_of(nodes)
    offered = (operations,) * len(edges)
    cells = {kind: CellSpec(2, edges, offered, 2 if kind == "reduce" else 1, outputs) for kind in kinds}
    return Space(
        name=name,
        family="darts",
        cells=cells,
        operations=operations,
        kept_edges=2,
        skeleton=skeleton,  # of one cell it is a reduction cell, of four: normal, two reductions, normal
        pool_norm=True,
        decodes_none=False,
        beside="skip_connect" if skips else None,
        own_networks=True,
        found_pool_norm=True,
        **limits,
    )


BENCH_SUITE = tuple(
    _space(f"{shape}_{kind}", operations, skips, **how)
    for shape, how in SHAPES.items()
    for kind, (operations, skips) in OFFERED.items()
)
"""The nine spaces, as the suite lists them."""
