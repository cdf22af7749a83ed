"""How architecture and weights learn: where the gradient of each step comes from.

A gradient may take several passes, some of them with other weights of the operations; what it changes it undoes. The optimisers
lie above (`midas.training.bilevel`). In a step that is recorded as a CUDA graph nothing may ask the device for a number
(`Passes.epoch` is a tensor, as schedules are), and a pass overwrites what the last one of its kind left: who needs both copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from midas.methods.passes import Batch, Loss, Passes, Term, TrainingPass, classified
from midas.methods.restrictions import Restrictions
from midas.supernet.weights import Change


class Step(NamedTuple):
    """What a gradient is found with.

    Attributes:
        passes: of the supernet; they know the epoch.
        train: batch of the training half.
        valid: batch of the validation half.
        weight_optimizer: with the learning rate of the epoch and the momentum of the weights.
        restrictions: operations that are frozen or masked; more may be added.
    """

    passes: Passes
    train: Batch
    valid: Batch
    weight_optimizer: torch.optim.Optimizer
    restrictions: Restrictions


Gradient = Callable[[Step], TrainingPass]


def first_order(step: Step) -> TrainingPass:
    """The architecture's gradient on the validation batch, with the weights as they are (DARTS, first order)."""
    return step.passes.of_architecture(step.valid)


def on_train(step: Step) -> TrainingPass:
    """The weights' gradient on the training batch."""
    return step.passes.of_weights(step.train)


class Learning(NamedTuple):
    """How a search learns.

    Attributes:
        architecture: gradient of the architecture parameters.
        weights: gradient of the network's weights.
        terms: of the architecture's loss beside that of the batch.
        after: called after each step of the weights, whose `grad` are then those that the optimiser was given, clipped.
        late_rate: factor on the weights' first learning rate in epochs that follow those of the search, if any do.
        before: called once the architecture's gradient is found, before its optimiser moves the architecture by it.
        loss: of a batch.
    """

    architecture: Gradient = first_order
    weights: Gradient = on_train
    terms: tuple[Term, ...] = ()
    after: Callable[[Step], None] | None = None
    late_rate: float | None = None
    before: Callable[[Step], None] | None = None
    loss: Loss = classified


def perturbed(change: Callable[[Step], Change], gradient: Gradient = on_train) -> Gradient:
    """A gradient with other weights of the operations; afterwards they and the architecture parameters are what they were.

    Args:
        change: makes the change of a step.
        gradient: what is found within it.
    """

    def found(step: Step) -> TrainingPass:
        with step.passes.supernet.changed(change(step)):
            return gradient(step)

    return found
