"""What do a few seeds say of a number? Its mean with an interval, and the difference of two means with a test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
ONE_SEED = "one seed: no spread"


def summarise(values: Sequence[float], best: Callable[[Sequence[float]], float] | None = None) -> dict[str, Any]:
    """Mean, sample standard deviation, 95 % t interval of the mean, and the best, of a number over the seeds.

    The interval takes the runs as a random sample of normally distributed ones.

    Args:
        values: one for each seed.
        best: `min` or `max`, None where no value is better than another.

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
    return {**row, "std": std, "low": mean - half, "high": mean + half, "interval": interval, "missing": ""}


def difference(first: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Difference of two means with its 95 % interval and test by Welch (Biometrika 1947).

    Returns:
        mean, low, high, interval, n, n_other, p_value, verdict in words.
    """
    row = {"mean": float(np.mean(first) - np.mean(other)), "n": len(first), "n_other": len(other)}
    if min(len(first), len(other)) < 2:
        return {**row, "verdict": "one seed: no test"}
    if np.ptp(first) == np.ptp(other) == 0:
        return {**row, "verdict": "no variation over seeds: no test"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # all seeds of one method found the same: its variance is 0 indeed
        test = stats.ttest_ind(first, other, equal_var=False)
    low, high = test.confidence_interval(1 - LEVEL)
    verdict = f"significant at {LEVEL}" if test.pvalue < LEVEL else "not significant"
    interval = "95 % Welch interval of the difference"
    found = {"low": float(low), "high": float(high), "interval": interval, "p_value": float(test.pvalue)}
    return {**row, **found, "verdict": verdict}


def against(values: Sequence[float], mean: float) -> dict[str, Any]:
    """Difference of a mean over seeds to a known number, with the 95 % interval and test of one sample (Student).

    Returns:
        mean, low, high, interval, n, p_value, verdict in words.
    """
    found = summarise(values)
    row = {"mean": found["mean"] - mean, "n": len(values)}
    if len(values) < 2:
        return {**row, "verdict": "one seed: no test"}
    if np.ptp(values) == 0:
        return {**row, "verdict": "no variation over seeds: no test"}
    p_value = float(stats.ttest_1samp(values, mean).pvalue)
    verdict = f"significant at {LEVEL}" if p_value < LEVEL else "not significant"
    interval = "95 % t interval of the difference to a number that is taken as known"
    ends = {"low": found["low"] - mean, "high": found["high"] - mean, "interval": interval, "p_value": p_value}
    return {**row, **ends, "verdict": verdict}
