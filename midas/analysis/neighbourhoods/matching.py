"""Do found cells lie in flatter surroundings than others of the same accuracy? Matched cells, and a permutation test.

Each found cell has a set of matched ones: cells that no search found, those with the nearest accuracies. Were "found" a name
without a meaning, any member of a set could carry it. So from each set one cell is drawn, found one included, and the mean
difference of these to the rest of their sets is compared with that of the found ones. The p-value is twice that of the nearer
tail; the interval belongs to it: the difference less the quantiles 0.975 and 0.025 of what chance does, as if being found
shifted a number.

It speaks of these cells, not of searches that were not made. It takes cells as independent, which they are not quite: cells that
one method found may be neighbours of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEVEL = 0.05
SEED = 0
ROUNDING = 1e-9
INTERVAL = "95 % interval of the permutation test under a shift"


def matched(found: np.ndarray, accuracy: np.ndarray, count: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """For each found cell the cells that no search found whose accuracies are nearest.

    Args:
        found: places, each once, [found].
        accuracy: of each cell, [cells].
        count: how many.
        allowed: which cells may be matched, [cells]; None for all.

    Returns:
        Places, [found, count], the nearest first; of equal ones that of the lower place.
    """
    others = np.setdiff1d(np.arange(len(accuracy)) if allowed is None else np.flatnonzero(allowed), found)
    gaps = np.abs(accuracy[others][None] - accuracy[found][:, None])
    return others[np.argsort(gaps, axis=1, kind="stable")[:, :count]]


def compare(found: np.ndarray, pools: np.ndarray, draws: int) -> dict[str, Any]:
    """The test that the module describes.

    Args:
        found: a number of each found cell, [found].
        pools: the same of its matched cells, [found, matched].
        draws: of one cell from each set; with a fixed seed.

    Returns:
        found and matched (means), difference, low, high, interval, p_value (two-sided, at least 2 / (draws + 1)), verdict.
    """
    sets = np.column_stack([found, pools])
    rest = (
        sets - (sets.sum(1, keepdims=True) - sets) / pools.shape[1]
    )  # each member less the mean of the others of its set
    chosen = np.random.default_rng(SEED).integers(sets.shape[1], size=(draws, len(sets)))
    chance, difference = rest[np.arange(len(sets)), chosen].mean(1), float(rest[:, 0].mean())
    tails = [(chance <= difference + ROUNDING).sum(), (chance >= difference - ROUNDING).sum()]
    p_value = min(1.0, 2 * (1 + int(min(tails))) / (1 + draws))
    low, high = difference - np.quantile(chance, [1 - LEVEL / 2, LEVEL / 2])
    direction = "lower" if difference < 0 else "higher"
    return {
        "found": float(found.mean()),
        "matched": float(pools.mean()),
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "interval": INTERVAL,
        "p_value": p_value,
        "verdict": f"{direction} at {LEVEL}" if p_value < LEVEL else "no difference shown",
    }
