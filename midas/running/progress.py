"""Progress of a long step: a bar where stderr is a terminal, else a line an epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Progress:
    """Reports the epochs of one step on stderr.

    Args:
        epochs: number of epochs in all.
        label: name of the step.
    """

    def __init__(self, epochs: int, label: str):
        self.epochs, self.label = epochs, label
        self._start = time.monotonic()

    def steps(self, batches: Iterable[Item], count: int, epoch: int, first: int = 0) -> Iterator[Item]:
        """Pass the batches of an epoch from `first` on through, with a bar on a terminal; epochs count from 0."""
        self._start = time.monotonic()
        name = f"{self.label} {epoch + 1}/{self.epochs}"
        yield from tqdm(batches, name, count, initial=first, leave=False, disable=not sys.stderr.isatty())

    def epoch(self, epoch: int, **numbers: float) -> None:
        """Say how an epoch ended."""
        values = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        seconds = time.monotonic() - self._start
        print(f"{self.label} epoch {epoch + 1}/{self.epochs}  {values}  {seconds:.1f} s", file=sys.stderr, flush=True)
