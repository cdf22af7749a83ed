"""Parameters that a gradient moves for some of its passes, and copies of what a pass leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from midas.methods.passes import TrainingPass

Tensors = Sequence[Tensor]
Gradients = Sequence[Tensor | None]
"""One for each parameter; None where it had no part in the loss."""


@contextmanager
def restored(parameters: Tensors) -> Iterator[list[Tensor]]:
    """Within it parameters may be written to; afterwards they are what they were, bit for bit. Gives copies of them."""
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        yield before
    finally:
        write(parameters, before)


@torch.no_grad()
def write(parameters: Tensors, values: Tensors) -> None:
    """Write values into parameters, which stay where they are in memory."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def moved(values: Tensors, directions: Gradients, factor: float | Tensor) -> list[Tensor]:
    """Values moved by `factor` along directions; one without a direction stays."""
    return [value if d is None else value + factor * d for value, d in zip(values, directions, strict=True)]


def copies(gradients: Gradients) -> list[Tensor | None]:
    """Gradients that the passes that follow can't overwrite."""
    return [None if gradient is None else gradient.clone() for gradient in gradients]


def kept(found: TrainingPass) -> TrainingPass:
    """All of a pass that the passes that follow can't overwrite."""
    return found._replace(
        loss=found.loss.clone(),
        accuracy=found.accuracy.clone(),
        gradients=tuple(copies(found.gradients)),
        p=found.p.clone(),
        pi=None if found.pi is None else found.pi.clone(),
    )


def central_difference(
    parameters: Tensors,
    at: Tensors,
    directions: Gradients,
    radius: float | Tensor,
    gradient: Callable[[], Gradients],
) -> list[Tensor | None]:
    """Derivative of a gradient along directions v: (gradient at x + radius v - gradient at x - radius v) / (2 radius).

    Args:
        parameters: x is written into them; the caller restores them.
        at: x.
        directions: v.
        radius: in units of v.
        gradient: with the parameters as they are.
    """
    write(parameters, moved(at, directions, radius))
    above = copies(gradient())
    write(parameters, moved(at, directions, -radius))
    below = gradient()
    return [None if a is None or b is None else (a - b) / (2 * radius) for a, b in zip(above, below, strict=True)]
