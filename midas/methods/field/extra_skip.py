"""DARTS-: a skip connection beside the mixture of every edge, whose weight falls to 0 (Chu et al., ICLR 2021).

The schedules take the epoch from 0, a tensor [], and the number of epochs; they begin at 1 and return a tensor [] of the epoch's
type, or of the default one where the epoch is an integer. Those that fall would be 0 only one epoch after the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor, int], Tensor]
"""From the epoch and the number of epochs to the weight of the extra skip."""


def linear(epoch: Tensor, epochs: int) -> Tensor:
    """In equal steps (the schedule of the paper)."""
    return (epochs - epoch) / epochs


def cosine(epoch: Tensor, epochs: int) -> Tensor:
    """Half a period of the cosine, from 1 to 0."""
    return (1 + torch.cos(epoch * (math.pi / epochs))) / 2


def slow_cosine(epoch: Tensor, epochs: int) -> Tensor:
    """A quarter of its period: slow at the start alone."""
    return torch.cos(epoch * (math.pi / (2 * epochs)))


def constant(epoch: Tensor, epochs: int) -> Tensor:
    """1 in all epochs."""
    return torch.ones_like(epoch / epochs)


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "cosine": cosine,
    "slow_cosine": slow_cosine,
    "none": constant,
}
"""By the name of the decay."""


def with_skip(mixed: Tensor, skip: Tensor, weight: Tensor | float) -> Tensor:
    """An edge's map [B, C, H, W] with the extra skip, which takes no part in the softmax.

    Args:
        mixed: mixture of the edge's candidates [B, C, H, W].
        skip: map of the extra skip [B, C, H, W]: the edge's input, at stride 2 a factorized reduction of its own.
        weight: of the extra skip, a tensor [] where a step is recorded.
    """
    return mixed + weight * skip
