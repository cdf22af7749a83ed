"""Rank correlation with its interval, and what is expected of the best of a few by a score. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 1000
LEVEL = 0.05
FEWEST = 10
"""Cells below which no correlation is stated."""
INTERVAL = f"95 % percentile interval over {RESAMPLES} bootstrap samples of the cells"


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, ends of its interval, and of how many cells; NaN where it isn't defined."""

    value: float
    low: float
    high: float
    n: int


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis: [..., n] and [..., n] -> [...]; ties share their mean rank.

    NaN where all of one are equal.
    """
    a, b = (rankdata(v, axis=-1) for v in (x, y))
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (a * b).sum(-1) / scale, np.nan)


def correlation(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Correlation:
    """The correlation of two numbers of the same cells [n], with a bootstrap interval (Efron, 1979); NaN in either is left out.

    Samples in which all are equal in one of the two have no correlation and don't count.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y, n = x[known], y[known], int(known.sum())
    if n < FEWEST:
        return Correlation(np.nan, np.nan, np.nan, n)
    value = float(spearman(x, y))
    if np.isnan(value):
        return Correlation(value, np.nan, np.nan, n)
    index = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    low, high = np.nanquantile(spearman(x[index], y[index]), [LEVEL / 2, 1 - LEVEL / 2])
    return Correlation(value, float(low), float(high), n)


def chances(n: int, m: int) -> np.ndarray:
    """Chance of each of n cells, the best first, to be the best of m that are drawn without repetition: [n], its sum is 1.

    The i-th, counted from 0, is the best of them if it is drawn and the others are of the n - 1 - i behind it:
    C(n - 1 - i, m - 1) / C(n, m).

    Raises:
        ValueError: m is below 1 or above n.
    """
    if not 1 <= m <= n:
        raise ValueError(f"{m} of {n} cells can't be drawn")
    found = np.zeros(n)
    chance = m / n
    for i in range(n - m + 1):
        found[i] = chance
        chance *= (n - i - m) / (n - 1 - i) if i < n - 1 else 0
    return found


def picked(scores: np.ndarray, values: np.ndarray, m: int) -> tuple[float, float]:
    """Mean and standard deviation of the value of the cell of the highest score among m, over all draws of m of the n cells.

    Exact, without simulation. Of equal scores the one that comes first is taken.

    Args:
        scores: [n], finite.
        values: [n].
        m: from 1 to n.
    """
    ordered = values[np.argsort(-scores, kind="stable")]
    weights = chances(len(ordered), m)
    mean = float(weights @ ordered)
    return mean, float(weights @ (ordered - mean) ** 2) ** 0.5
