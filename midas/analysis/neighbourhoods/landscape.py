"""NAS-Bench-201 as a landscape: all 15,625 cells in one order, sums over those at a distance, and paths between cells.

A cell's place is the number whose six digits of base 5 are its operations, so that an array over the cells is one over a grid of
5 x 5 x 5 x 5 x 5 x 5, and a change of one edge a step along one axis. Tests hold these sums against `midas.spaces.neighbours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from math import comb
from pathlib import Path

import numpy as np

from midas.spaces.benchmark import CELLS, read_table
from midas.spaces.genotype import Genotype
from midas.spaces.nas_bench_201 import EDGES, OPERATIONS
from midas.spaces.neighbours.nas_bench_201 import cell_of, operations_of

RADIUS = 3
"""Distance up to which is looked, and that of the two ends of a path (A2M, arXiv 2503.10404)."""
COUNTS = tuple(comb(len(EDGES), r) * (len(OPERATIONS) - 1) ** r for r in range(RADIUS + 1))
"""How many cells lie at each distance of any cell: 1, 24, 240, 1,280."""
GRID = (len(OPERATIONS),) * len(EDGES)
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
DIGITS: np.ndarray = np.stack(np.unravel_index(np.arange(CELLS), GRID), axis=1)
"""Operation on each edge of each place, [cells, edges]."""
WITHOUT_NONE: np.ndarray = np.all(OPERATIONS.index("none") != DIGITS, axis=1)
"""Which cells have no "none"; many methods decode no others."""


_BY_EDGE: np.ndarray = np.ascontiguousarray(DIGITS.T, np.int8)


def far_from(place: int) -> np.ndarray:
    """Distance of each cell from one, [cells]."""
    far = np.zeros(CELLS, np.int8)
    for digits in _BY_EDGE:
        far += digits != digits[place]
    return far


def place_of(cell: Genotype) -> int:
    """Place of a cell.

    Raises:
        ValueError: it is a cell of another space.
    """
    return int(np.ravel_multi_index([OPERATIONS.index(operation) for operation in operations_of(cell)], GRID))


@cache
def texts() -> tuple[str, ...]:
    """The text of the cell at each place."""
    return tuple(str(cell_of(operations)) for operations in product(OPERATIONS, repeat=len(EDGES)))


def read_accuracies(table: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Some columns of the benchmark's table, percent, float64 [cells] by place; and the cells' numbers as "index".

    Raises:
        ValueError: the table can't be read, lacks a column or a cell, or holds what isn't allowed.
    """
    rows = read_table(table, CELLS)
    return {name: np.array([rows[text][name] for text in texts()]) for name in ("index", *columns)}


def shells(values: np.ndarray) -> np.ndarray:
    """Sums over the cells at each distance of each cell.

    Args:
        values: one of each cell, [cells].

    Returns:
        [RADIUS + 1, cells]: at r the sum over the `COUNTS[r]` cells at distance r. Where the values are weights of cells, it
        is the weight that comes to each cell from those at distance r.
    """
    grids = [values.reshape(GRID), *(np.zeros(GRID) for _ in range(RADIUS))]
    for axis in range(len(GRID)):
        # one change more for each of the other four operations on this edge
        others = [grid.sum(axis, keepdims=True) - grid for grid in grids]
        grids = [grids[0], *(grids[r] + others[r - 1] for r in range(1, RADIUS + 1))]
    return np.stack(grids).reshape(RADIUS + 1, -1)


def drops(accuracy: np.ndarray) -> np.ndarray:
    """By how much the mean accuracy at each distance is below a cell's own, percentage points, [RADIUS + 1, cells]."""
    return accuracy - shells(accuracy) / np.array(COUNTS)[:, None]


def changes(place: int, accuracy: np.ndarray) -> np.ndarray:
    """Mean absolute difference between a cell's accuracy and those at each distance, percentage points, [RADIUS + 1].

    Flatness whichever way it goes: a drop is one only where a cell is better than its surroundings.
    """
    apart = np.abs(accuracy - accuracy[place])
    return np.bincount(far_from(place), apart)[: RADIUS + 1] / np.array(COUNTS)


def quantiles(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Quantiles of weighted values: of each the lowest value up to which at least that share of the weight lies."""
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(weights[order])
    # a share that is reached but for rounding is reached
    places = np.searchsorted(shares / shares[-1], np.array(list(QUANTILES.values())) - 1e-9)
    return dict(zip(QUANTILES, values[order][places].tolist(), strict=True))


def similar(place: int, accuracy: np.ndarray, count: int) -> np.ndarray:
    """The cells at distance `RADIUS` whose accuracies are nearest to a cell's own, the nearest first.

    Of equal ones that of the lower place.
    """
    there = np.flatnonzero(far_from(place) == RADIUS)
    return there[np.argsort(np.abs(accuracy[there] - accuracy[place]), kind="stable")[:count]]


def steps(starts: np.ndarray, ends: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Mean accuracy at each step of the shortest paths between cells at distance `RADIUS`.

    Args:
        starts: places, [pairs].
        ends: places, [pairs].
        accuracy: of each cell, [cells].

    Returns:
        [pairs, RADIUS + 1]; a mean over a step is one over all RADIUS! paths, since each cell of a step lies on as many.
    """
    differing = np.argsort(DIGITS[starts] == DIGITS[ends], axis=1, kind="stable")[:, :RADIUS]
    assert ((DIGITS[starts] != DIGITS[ends]).sum(1) == RADIUS).all()
    found, rows = np.zeros((len(starts), RADIUS + 1)), np.arange(len(starts))
    for taken in product((False, True), repeat=RADIUS):
        digits = DIGITS[starts].copy()
        for column in np.flatnonzero(taken):
            edges = differing[:, column]
            digits[rows, edges] = DIGITS[ends][rows, edges]
        found[:, sum(taken)] += accuracy[np.ravel_multi_index(digits.T, GRID)]
    return found / [comb(RADIUS, step) for step in range(RADIUS + 1)]


def barriers(means: np.ndarray) -> np.ndarray:
    """How far the lowest step of a path lies below the mean of its ends, percentage points, [pairs].

    A2M's barrier (its code takes the step after the start for the end; here it is the end).

    Args:
        means: accuracy at each step, [pairs, steps].
    """
    return (means[:, 0] + means[:, -1]) / 2 - means.min(1)
