"""How is time measured? One step several times, several contestants in turn, and the median of it with an interval."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

Contestant = TypeVar("Contestant")


def seconds_of(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Mean seconds of a step over `steps` in a row; a GPU is waited for before and after."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    contestants: Sequence[Contestant], repeats: int, measure: Callable[[Contestant], float]
) -> dict[Contestant, list[float]]:
    """Measure all of them in turn, after a turn each as a warm-up, in an order that is reversed from repeat to repeat.

    Args:
        contestants: what is measured.
        repeats: measurements of each.
        measure: takes one.

    Returns:
        Measurements of each, by repeat.
    """
    found: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
    for contestant in contestants:
        measure(contestant)
    for repeat in range(repeats):
        order = contestants[:: -1 if repeat % 2 else 1]
        for contestant in order:
            found[contestant].append(measure(contestant))
        print(f"turn {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    return found


def median_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Median, and the ends of an interval that covers the true one with at least 95 % probability, whatever the distribution.

    The ends are order statistics. Below six values there is no such interval, and they are None.
    """
    from scipy.stats import quantile_test  # takes a second

    ends = quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    return float(np.median(values)), low, high
