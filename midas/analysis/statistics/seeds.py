"""What do a few seeds say of a number? Its mean with an interval, and the difference of two means with a test."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
FEWEST = 3
"""Seeds of which a difference is tested; of two a t interval is thirteen standard deviations wide."""
ONE_SEED = "one seed: no spread"
FEW = "fewer than three seeds: no test"
CONSTANT = "no variation over seeds: no test"
SIGNIFICANT, NOT_SIGNIFICANT = f"significant at {LEVEL}", "not significant"
ANY = (-math.inf, math.inf)
PERCENT, POSITIVE = (0.0, 100.0), (0.0, math.inf)
"""Ends of what a quantity can be."""


def summarise(
    values: Sequence[float],
    best: Callable[[Sequence[float]], float] | None = None,
    within: tuple[float, float] = ANY,
) -> dict[str, Any]:
    """Mean, sample standard deviation, 95 % t interval of the mean, and the best, of a number over the seeds.

    The interval takes the runs as a random sample of normally distributed ones; it ends where the quantity does.

    Args:
        values: one for each seed.
        best: `min` or `max`, None where no value is better than another.
        within: least and largest value that the quantity can have.

    Returns:
        mean, std, low, high, interval, best, n, missing; std, low and high are NaN for a single seed.
    """
    n, mean = len(values), float(np.mean(values))
    row = {"mean": mean, "best": best(values) if best else np.nan, "n": n}
    if n == 1:
        return {**row, "missing": ONE_SEED}
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * std / n**0.5
    interval = "95 % t interval of the mean over seeds"
    low, high = max(mean - half, within[0]), min(mean + half, within[1])
    return {**row, "std": std, "low": low, "high": high, "interval": interval, "missing": ""}


def difference(first: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Difference of two means with its 95 % interval and test by Welch (Biometrika 1947), from three seeds each on.

    Returns:
        mean, low, high, interval, n, n_other, p_value, verdict in words.
    """
    row = {"mean": float(np.mean(first) - np.mean(other)), "n": len(first), "n_other": len(other)}
    if min(len(first), len(other)) < FEWEST:
        return {**row, "verdict": FEW}
    if np.ptp(first) == np.ptp(other) == 0:
        return {**row, "verdict": CONSTANT}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # all seeds of one method found the same: its variance is 0 indeed
        test = stats.ttest_ind(first, other, equal_var=False)
    low, high = test.confidence_interval(1 - LEVEL)
    verdict = SIGNIFICANT if test.pvalue < LEVEL else NOT_SIGNIFICANT
    interval = "95 % Welch interval of the difference"
    found = {"low": float(low), "high": float(high), "interval": interval, "p_value": float(test.pvalue)}
    return {**row, **found, "verdict": verdict}


def against(values: Sequence[float], mean: float) -> dict[str, Any]:
    """Difference of a mean over three seeds or more to a known number, with the 95 % interval and test of one sample (Student).

    Returns:
        mean, low, high, interval, n, p_value, verdict in words.
    """
    found = summarise(values)
    row = {"mean": found["mean"] - mean, "n": len(values)}
    if len(values) < FEWEST:
        return {**row, "verdict": FEW}
    if np.ptp(values) == 0:
        return {**row, "verdict": CONSTANT}
    p_value = float(stats.ttest_1samp(values, mean).pvalue)
    verdict = SIGNIFICANT if p_value < LEVEL else NOT_SIGNIFICANT
    interval = "95 % t interval of the difference to a number that is taken as known"
    ends = {"low": found["low"] - mean, "high": found["high"] - mean, "interval": interval, "p_value": p_value}
    return {**row, **ends, "verdict": verdict}


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values [m] of m tests, adjusted for their number (Holm, Scand. J. Statist. 1979); NaN stay and don't count."""
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.isfinite(p_values).sum())]  # NaN are sorted last
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def corrected(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tidy numbers of one table's blocks, whose tests are judged together: with `p_holm`, and the verdict that follows."""
    tests = [frame.get("p_value", pd.Series(np.nan, frame.index)).astype(float) for frame in frames]
    adjusted = np.split(holm(np.concatenate([*tests, []])), np.cumsum([len(test) for test in tests]))
    found = []
    for frame, p_holm in zip(frames, adjusted, strict=False):  # the last part is empty
        tested = np.isfinite(p_holm)
        words = np.where(p_holm < LEVEL, SIGNIFICANT, NOT_SIGNIFICANT)
        found.append(
            frame.assign(p_holm=p_holm, verdict=frame["verdict"].where(~tested, words)) if tested.any() else frame
        )
    return found
