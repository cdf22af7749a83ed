"""Progress of a long step on stderr: what it computes and where; a bar on a terminal, else a line an epoch, and signs of life."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from tqdm import tqdm

from midas.running.words import duration

Item = TypeVar("Item")
SIGN_OF_LIFE = 300.0
"""Seconds without a line after which one says how far an epoch is."""


def say(text: str) -> None:
    """A line with the time of day before it."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def announce(label: str, what: str, network: torch.nn.Module, device: torch.device) -> None:
    """Say what is trained and on what."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    say(f"{label}: {what}, {parameters:,} parameters, on {on}")


class Progress:
    """Reports the epochs of one step on stderr.

    Args:
        epochs: number of epochs in all.
        label: name of the step.
    """

    def __init__(self, epochs: int, label: str):
        self.epochs, self.label = epochs, label
        self._begin = self._start = time.monotonic()
        self._done = 0

    def steps(self, batches: Iterable[Item], count: int, epoch: int, first: int = 0) -> Iterator[Item]:
        """Pass the batches of an epoch from `first` on through, with a bar on a terminal; epochs count from 0."""
        name, terminal = f"{self.label} {epoch + 1}/{self.epochs}", sys.stderr.isatty()
        said = time.monotonic()
        bar = tqdm(batches, name, count, initial=first, leave=False, disable=not terminal)
        for step, batch in enumerate(bar, first):
            if not terminal and time.monotonic() - said > SIGN_OF_LIFE:
                say(f"{self.label} epoch {epoch + 1}/{self.epochs}, step {step + 1}/{count}")
                said = time.monotonic()
            yield batch

    def epoch(self, epoch: int, **numbers: float) -> None:
        """Say how an epoch ended: its numbers, its seconds, and how long the others will take if they take as long."""
        values = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        now = time.monotonic()
        seconds, self._start, self._done = now - self._start, now, self._done + 1
        left = (now - self._begin) / self._done * (self.epochs - epoch - 1)
        rest = f", {duration(left)} left" if epoch + 1 < self.epochs else ""
        say(f"{self.label} epoch {epoch + 1}/{self.epochs}  {values}  {seconds:.1f} s{rest}")
