"""Forward and backward passes of a supernet: what a step of a search learns from a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.config.settings import Search
from midas.supernet import Supernet

Batch = tuple[Tensor, Tensor]
"""Images [B, 3, height, width] and labels [B]."""

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of a batch, from the supernet's output and what is wanted of it: the loss, and how good the output is, in percent."""


def classified(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and accuracy (percent) of logits [B, classes] and labels [B]."""
    return F.cross_entropy(logits.float(), labels), (logits.detach().argmax(1) == labels).float().mean() * 100


Term = Callable[[Supernet, Tensor], Tensor]
"""What is added to the architecture's loss: a scalar of the supernet after its forward pass, and of the epoch, see `Passes`."""


class TrainingPass(NamedTuple):
    """What a forward and a backward pass leave.

    Attributes:
        loss: of the batch (by default its cross-entropy), without other terms.
        accuracy: in percent.
        gradients: of the parameters that were asked for.
        p: weights of the pass (`Supernet.mixture`).
        pi: likewise.
        alignment: Lambda of the cells' gradients of p, where a method looks at it (`midas.methods.field.steps.alignment`).
    """

    loss: Tensor
    accuracy: Tensor
    gradients: tuple[Tensor | None, ...]
    p: Tensor
    pi: Tensor | None
    alignment: Tensor | None = None


class Passes:
    """Passes of one supernet.

    Args:
        supernet: on its device.
        settings: of the search.
        device: the supernet's.
        terms: of the architecture's loss beside that of the batch.
        criterion: loss of a batch.

    Attributes:
        epoch: that the search is in, from 0: a tensor [] on the device, so that what is recorded follows it.
        counted: passes forward and backward, and forward alone, that were made.
    """

    def __init__(
        self,
        supernet: Supernet,
        settings: Search,
        device: torch.device,
        terms: Sequence[Term] = (),
        criterion: Loss = classified,
    ):
        self.supernet, self.settings, self.device, self.terms = supernet, settings, device, terms
        self.criterion = criterion
        self.weights, self.architecture = supernet.weight_parameters(), supernet.architecture_parameters()
        self.epoch = supernet.epoch
        self.counted = (0, 0)
        self._leaves: Sequence[Tensor] = ()
        self._read: list[Tensor] = []

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and accuracy in percent."""
        if self.settings.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            output = self.supernet(x)
        return self.criterion(output, y)

    def of_weights(self, batch: Batch) -> TrainingPass:
        """A pass back to the network's weights."""
        found = self._pass([*self.weights, *self._leaves], *batch)
        own, others = found.gradients[: len(self.weights)], found.gradients[len(self.weights) :]
        self._read[:] = [torch.zeros_like(x) if g is None else g for x, g in zip(self._leaves, others, strict=True)]
        return found._replace(gradients=own)

    @contextmanager
    def reading(self, leaves: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Within, a pass back to the weights goes on to leaves that a change adds; the list has their gradients."""
        self._leaves, self._read = leaves, []
        try:
            yield self._read
        finally:
            self._leaves, self._read = (), []

    def of_leaves(self, batch: Batch, leaves: Sequence[Tensor]) -> TrainingPass:
        """A pass back to leaves alone that a change brings in."""
        return self._pass(leaves, *batch)

    def of_architecture(self, batch: Batch) -> TrainingPass:
        """A pass back to the architecture parameters."""
        return self._pass(self.architecture, *batch, self.terms)

    def of_both(self, batch: Batch) -> tuple[TrainingPass, tuple[Tensor | None, ...]]:
        """The same, and the gradients of the network's weights that the pass leaves by the way."""
        found, own = self._pass([*self.architecture, *self.weights], *batch, self.terms), len(self.architecture)
        return found._replace(gradients=found.gradients[:own]), found.gradients[own:]

    def forward(self, batch: Batch) -> TrainingPass:
        """A pass forward alone."""
        return self._pass([], *batch)

    def _pass(self, parameters: Sequence[Tensor], x: Tensor, y: Tensor, terms: Sequence[Term] = ()) -> TrainingPass:
        """Forward, and backward to these parameters alone: half of it is saved, and the maps that the others would need."""
        whole, forward = self.counted
        self.counted = (whole + bool(parameters), forward + (not parameters))
        chosen = {id(parameter) for parameter in parameters}
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(id(parameter) in chosen)
        with torch.set_grad_enabled(bool(parameters)):
            loss, accuracy = self.loss(x, y)
            total = sum((term(self.supernet, self.epoch) for term in terms), loss)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True) if parameters else ()
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(True)
        return TrainingPass(loss.detach(), accuracy, gradients, *self.supernet.mixture())
