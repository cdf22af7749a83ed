"""DARTS-: a skip connection beside the mixture of every edge, whose weight falls (Chu et al., ICLR 2021).

An edge's map is sum_k p_k op_k(x) + b(e) skip(x): the extra skip takes no part in the softmax, it is on every edge, also where
skip_connect is no candidate, it has parameters of its own where it reduces, and the found network has none of it. Its map is
computed in `midas.supernet.beside.skips`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def linear(epoch: Tensor, epochs: int) -> Tensor:
    """In equal steps, the schedule of the paper: from 1 to 1 / epochs, never 0."""
    return (epochs - epoch.double()) / epochs


def cosine(epoch: Tensor, epochs: int) -> Tensor:
    """Half a period of the cosine, which would be 0 only one epoch after the last, as all that fall."""
    return (1 + torch.cos(epoch.double() * (math.pi / epochs))) / 2


def slow_cosine(epoch: Tensor, epochs: int) -> Tensor:
    """A quarter of its period: slow at the start alone."""
    return torch.cos(epoch.double() * (math.pi / (2 * epochs)))


def constant(epoch: Tensor, epochs: int) -> Tensor:
    """1 in all epochs, as the original has it where no decay is named."""
    return torch.ones_like(epoch, dtype=torch.float64)


DECAYS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "linear": linear,
    "cosine": cosine,
    "slow_cosine": slow_cosine,
    "none": constant,
}
"""By the key `decay`: from the epoch (from 0, a tensor []) and the number of epochs to a factor [] that begins at 1."""


def skip_weight(decay: str, first: float, epochs: int) -> Callable[[Tensor], Tensor]:
    """The weight b by the epoch (from 0, a tensor []), a tensor [] in float64.

    Args:
        decay: see `DECAYS`.
        first: b of the first epoch.
        epochs: of the search.
    """
    return lambda epoch: first * DECAYS[decay](epoch, epochs)
