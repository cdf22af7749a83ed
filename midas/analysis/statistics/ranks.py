"""Does a ranking of methods stay the same under other conditions? Ranks, their correlation, and an interval over seeds.

Shapes: B benchmarks, H retraining settings, M methods, S seeds, D draws. A number is better the larger it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

DRAWS = 2000
SHARE = 95
INTERVAL = f"{SHARE} % percentile interval over {DRAWS:,} draws of the seeds"


class Agreement(NamedTuple):
    """How alike the rankings are.

    Attributes:
        ranks: of the methods' means over seeds [B, H, M], 1 for the best, equal ones share their mean.
        settings: Spearman's correlation of two settings' rankings on each benchmark [B, H, H]; NaN where one ranks nothing.
        benchmarks: of two benchmarks' rankings under each setting [H, B, B].
        drawn_settings: the same of draws of the seeds [D, B, H, H]; D is 0 for a single seed.
        drawn_benchmarks: likewise [D, H, B, B].
    """

    ranks: np.ndarray
    settings: np.ndarray
    benchmarks: np.ndarray
    drawn_settings: np.ndarray
    drawn_benchmarks: np.ndarray


def ranks(means: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, 1 for the largest; equal ones share their mean."""
    return rankdata(-means, axis=-1)


def correlations(found: np.ndarray) -> np.ndarray:
    """Spearman's correlation of all pairs of rankings: [..., N, M] ranks -> [..., N, N]; NaN where all ranks of one are equal."""
    centred = found - found.mean(-1, keepdims=True)
    norms = np.sqrt((centred**2).sum(-1, keepdims=True))
    units = np.divide(centred, norms, out=np.full_like(centred, np.nan), where=norms > 0)
    return np.clip(units @ np.swapaxes(units, -1, -2), -1, 1)


def of_pairs(matrix: np.ndarray) -> np.ndarray:
    """Mean over the pairs of different rankings that have a correlation: [..., N, N] -> [...]; NaN where there is none."""
    return mean(matrix[..., *np.triu_indices(matrix.shape[-1], 1)], -1)


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is a number; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis)
    return np.divide(np.where(there, values, 0).sum(axis), count, out=np.full(count.shape, np.nan), where=count > 0)


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Ends of the percentile interval of one number over its draws [D]; NaN where there is none."""
    there = drawn[~np.isnan(drawn)]
    if len(there) == 0:
        return np.nan, np.nan
    low, high = np.percentile(there, [(100 - SHARE) / 2, (100 + SHARE) / 2])
    return float(low), float(high)


def drawn_means(values: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """Means over seeds drawn with replacement [D, B, H, M], from values [B, H, M, S].

    A draw takes the same seeds of a method on a benchmark under all settings, since those train the same cells.
    """
    benchmarks, _, methods, seeds = values.shape
    places = np.random.default_rng(seed).integers(seeds, size=(draws, benchmarks, 1, methods, seeds))
    return np.stack([np.take_along_axis(values, place, -1).mean(-1) for place in places])


def agreement(values: np.ndarray, draws: int = DRAWS) -> Agreement:
    """How alike the rankings of methods are between settings and between benchmarks.

    Args:
        values: a number of each method, the larger the better [B, H, M, S].
        draws: of the seeds; none are taken of a single seed.
    """
    found = ranks(values.mean(-1))
    means = drawn_means(values, draws if values.shape[-1] > 1 else 0) if values.shape[-1] > 1 else None
    drawn = np.empty((0, *found.shape)) if means is None else ranks(means)
    return Agreement(
        found,
        correlations(found),
        correlations(np.swapaxes(found, 0, 1)),
        correlations(drawn),
        correlations(np.swapaxes(drawn, 1, 2)),
    )
