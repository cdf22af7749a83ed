"""The architecture's gradient through one step of the weights (DARTS, second order; Liu et al., ICLR 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midas.methods.field.steps.moves import Gradients, Tensors, central_difference, kept, restored, write
from midas.methods.learning import Gradient, Step, first_order
from midas.methods.passes import TrainingPass

Rate = float | Tensor
"""Learning rate: a number, or a tensor [] where a step is recorded."""


def second_order(radius: float = 0.01) -> Gradient:
    """The validation loss after an unrolled step of the weights on the training batch, differentiated by the architecture.

    The step is the weights' optimiser's own, with its momentum and decay, but it isn't clipped. What depends on the architecture
    through the step is found by a central difference. Loss, accuracy and mixing weights are those after the unrolled step.

    Args:
        radius: Euclidean length of the difference's two moves, over all weights together.
    """

    def found(step: Step) -> TrainingPass:
        passes = step.passes
        if not passes.architecture:  # frozen projections leave nothing to learn
            return first_order(step)
        count = len(passes.architecture)
        (group,) = step.weight_optimizer.param_groups
        parts = _frozen(step)
        ahead = _ahead(step, passes.of_weights(step.train).gradients)
        seen: list[TrainingPass] = []

        def validation() -> tuple[Gradients, Gradients]:
            own, others = passes.of_both(step.valid)
            both = kept(own._replace(gradients=(*own.gradients, *others)))
            seen.append(both)
            for number, part in parts:
                if (gradient := both.gradients[count + number]) is not None:
                    gradient[part] = 0
            return both.gradients[:count], both.gradients[count:]

        def training() -> Gradients:
            return passes.of_leaves(step.train, passes.architecture).gradients  # the training loss has no terms

        gradients = through_step(passes.weights, ahead, validation, training, group["lr"], radius)
        return seen[0]._replace(gradients=tuple(gradients))

    return found


def through_step(
    weights: Tensors,
    ahead: Tensors,
    validation: Callable[[], tuple[Gradients, Gradients]],
    training: Callable[[], Gradients],
    rate: Rate,
    radius: float,
) -> list[Tensor | None]:
    """Gradient of the architecture through one step of the weights; afterwards these are what they were.

    Args:
        weights: are written to; the closures see them so.
        ahead: their values after the unrolled step.
        validation: gradients of the validation loss by the architecture and by the weights, which no later pass overwrites.
        training: gradients of the training loss by the architecture.
        rate: learning rate of the step.
        radius: see `second_order`.
    """
    with restored(weights) as before:
        write(weights, ahead)
        direct, v = validation()
        implicit = central_difference(weights, before, v, reach(v, radius), training)
    return [d if d is None or i is None else d - rate * i for d, i in zip(direct, implicit, strict=True)]


def reach(v: Gradients, radius: float) -> Tensor:
    """How often v fits into a move of length `radius`: a tensor []."""
    length = torch.nn.utils.get_total_norm([x for x in v if x is not None])
    return radius / length.clamp(min=torch.finfo(length.dtype).tiny)  # v may be zero


def unrolled(
    weight: Tensor, gradient: Tensor | None, buffer: Tensor | None, rate: Rate, momentum: float, decay: float
) -> Tensor:
    """A weight of any shape after a step of SGD: w - rate (momentum buffer + gradient + decay w); without a gradient it stays."""
    if gradient is None:
        return weight
    push = gradient + decay * weight
    if buffer is not None:  # there is none before the first step
        push = push + momentum * buffer
    return weight - rate * push


@torch.no_grad()
def _ahead(step: Step, gradients: Gradients) -> list[Tensor]:
    """The weights after an unrolled step of their optimiser; what is frozen stays."""
    (group,) = step.weight_optimizer.param_groups
    state, weights = step.weight_optimizer.state, step.passes.weights
    ahead = [
        unrolled(
            weight, gradient, state.get(weight, {}).get("momentum_buffer"),
            group["lr"], group["momentum"], group["weight_decay"],
        )
        for weight, gradient in zip(weights, gradients, strict=True)
    ]  # fmt: skip
    for number, part in _frozen(step):
        if gradients[number] is not None:
            ahead[number][part] = weights[number][part]
    return ahead


def _frozen(step: Step) -> list[tuple[int, slice]]:
    """Numbers of the weights that are frozen in part, and which part of each."""
    numbers = {id(weight): number for number, weight in enumerate(step.passes.weights)}
    found = (step.passes.supernet.parameters_of(*operation) for operation in step.restrictions.frozen)
    return [(numbers[id(parameter)], part) for parts in found for parameter, part in parts]
