"""Operations whose weights learn no longer, while they and the architecture go on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midas.supernet import Supernet

Operation = tuple[int, int, str]
"""Number of a cell, index of an edge in it, name of an operation."""


class Frozen:
    """The operations of a supernet that are frozen, for ever: decay and momentum don't move them either.

    Attributes:
        operations: which, in the order in which they were frozen.
    """

    def __init__(self, supernet: Supernet):
        self.supernet, self.operations = supernet, list[Operation]()
        self._kept: list[tuple[nn.Parameter, slice, Tensor]] = []

    def add(self, *operations: Operation) -> None:
        """Freeze operations as they are."""
        for operation in operations:
            self.operations.append(operation)
            self._kept += [
                (parameter, part, parameter.detach()[part].clone())
                for parameter, part in self.supernet.parameters_of(*operation)
            ]

    def still(self) -> None:
        """Take them out of the gradients, before these are clipped."""
        for parameter, part, _ in self._kept:
            if parameter.grad is not None:
                parameter.grad[part] = 0

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back after an optimiser's step."""
        for parameter, part, value in self._kept:
            parameter[part] = value
