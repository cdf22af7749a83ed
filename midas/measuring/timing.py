"""Timing of searches on random images: one search step by step, several in turn, and the median of what was measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from midas.config.settings import Method, Search
from midas.images.seeds import seed_step
from midas.training.bilevel import Batch, FirstOrder, Sums, make_supernet
from midas.training.recorded import Recorded

Contestant = TypeVar("Contestant")


class SyntheticSearch:
    """A search that is given its batches one by one.

    Args:
        space: name of the space.
        method: of the search.
        settings: of the search.
        classes: number of classes.
        device: that it runs on.
    """

    def __init__(self, space: str, method: Method, settings: Search, classes: int, device: torch.device):
        seed_step(0, "synthetic", 0, 0)
        self.supernet = make_supernet(space, method, settings, classes, device)
        self._first_order, self._sums = FirstOrder(self.supernet, settings, device), Sums()
        self._records = settings.cuda_graph and device.type == "cuda"
        self._batches: list[Tensor] = []
        self._recorded: Recorded | None = None

    def step(self, train: Batch, valid: Batch) -> None:
        """One bilevel step: of the architecture on `valid`, then of the weights on `train`."""
        if not self._records:
            self._first_order.step(train, valid, self._sums)
            return
        if self._recorded is None:
            self._batches = [x.clone() for x in (*train, *valid)]
            self._recorded = Recorded(self._step)
        for own, given in zip(self._batches, (*train, *valid), strict=True):
            own.copy_(given)
        self._recorded()

    def _step(self) -> None:
        x, y, other_x, other_y = self._batches
        self._first_order.step((x, y), (other_x, other_y), self._sums)

    @torch.no_grad()
    def test(self, batch: Batch) -> None:
        """One forward pass, as for the dump at the end of a search."""
        self._first_order.loss(*batch)


def random_batch(images: int, image: tuple[int, int], classes: int, device: torch.device) -> Batch:
    """Normal pixels and uniform labels."""
    pixels = torch.randn(images, 3, *image, device=device)
    return pixels, torch.randint(classes, (images,), device=device)


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
