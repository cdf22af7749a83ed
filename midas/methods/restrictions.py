"""What of a supernet learns no longer, or takes part no longer, for the rest of a search; a checkpoint keeps it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from midas.methods.changes import Mask
from midas.supernet import Supernet

Operation = tuple[int, int, str]
"""Number of a cell, index of an edge in it, name of an operation."""


class Restrictions:
    """The frozen and the masked operations of a supernet.

    Attributes:
        frozen: operations whose weights stand still, in the order in which they were frozen; decay and momentum don't move them.
        mask: of operations that take part no longer, None without one.
        changes: how often either was changed; a recorded step is recorded anew then.
    """

    def __init__(self, supernet: Supernet):
        self.supernet, self.changes = supernet, 0
        self.frozen: list[Operation] = []
        self.mask: Mask | None = None
        self._kept: list[tuple[nn.Parameter, slice, Tensor]] = []
        self._watched: list[tuple[nn.Parameter, slice, Tensor, Tensor]] = []

    def freeze(self, *operations: Operation) -> None:
        """Freeze operations as they are; they and the architecture go on."""
        for operation in operations:
            self.frozen.append(operation)
            self._kept += [
                (parameter, part, parameter.detach()[part].clone())
                for parameter, part in self.supernet.parameters_of(*operation)
            ]
            self.changes += 1

    def watch(self, *operations: Operation) -> Tensor:
        """Operations that may be frozen on the device: bool [operations], all False as yet, for whoever asks to write into.

        One that is set freezes its operation as it is before the optimiser's next step. Unlike `freeze` this waits for nothing: a
        recorded step may do it. Who writes also keeps it in the checkpoint.
        """
        still = torch.zeros(len(operations), dtype=torch.bool, device=next(self.supernet.parameters()).device)
        for operation, flag in zip(operations, still.unbind(0), strict=True):
            self._watched += [
                (parameter, part, parameter.detach()[part].clone(), flag)
                for parameter, part in self.supernet.parameters_of(*operation)
            ]
        self.changes += 1
        return still

    def keep(self, kept: dict[str, Tensor], renormalises: bool, alone: bool = False) -> None:
        """Mask all other operations from here on, see `Mask`; another mask takes its place."""
        device = next(self.supernet.parameters()).device
        mask = Mask({kind: which.to(device) for kind, which in kept.items()}, renormalises, alone)
        if self.mask is not None:
            self.supernet.drop(self.mask)
        self.supernet.hold(mask, first=True)
        self.mask = mask
        self.changes += 1

    def still(self) -> None:
        """Take what is frozen out of the gradients, before these are clipped."""
        for parameter, part, _ in self._kept:
            if parameter.grad is not None:
                parameter.grad[part] = 0
        for parameter, part, _, flag in self._watched:
            if parameter.grad is not None:
                parameter.grad[part].masked_fill_(flag, 0)

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo what an optimiser's step did to what is frozen."""
        for parameter, part, value in self._kept:
            parameter[part] = value
        for parameter, part, value, flag in self._watched:
            value.copy_(torch.where(flag, value, parameter[part]))  # what is free takes its own values along
            parameter[part] = value

    def state(self) -> dict[str, Any]:
        """For a checkpoint; empty where nothing is restricted."""
        state: dict[str, Any] = {"frozen": list(self.frozen)} if self.frozen else {}
        return state | ({"mask": [self.mask.kept, self.mask.renormalises, self.mask.alone]} if self.mask else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, after the supernet's own was restored."""
        self.freeze(*(tuple(operation) for operation in state.get("frozen", ())))
        if "mask" in state:
            self.keep(*state["mask"])
