"""The architecture led to flat regions of the validation loss (A2M: Gambella, Pittorino and Roveri, arXiv 2503.10404, 2025)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midas.methods.field.steps.moves import Gradients, Tensors, central_difference, copies, kept, moved, restored, write
from midas.methods.learning import Gradient, Step
from midas.methods.passes import TrainingPass


def flat(rho: float, epsilon: float, look_behind: int = 1, rate: float = 3e-4) -> Gradient:
    """The gradient of the validation loss at architecture parameters that have climbed, and how it changes along itself.

    Loss, accuracy and mixing weights are those before the climb. It takes `look_behind` + 3 passes on the validation batch; terms
    of the loss are part of each.

    Args:
        rho: step of the climb, in units of the gradient.
        epsilon: half the width of the central difference, likewise, above 0.
        look_behind: steps of the climb; with more than one the sum of their gradients times `rate` leads.
        rate: learning rate of the architecture, for more than one step.
    """

    def found(step: Step) -> TrainingPass:
        passes = step.passes
        first = kept(passes.of_architecture(step.valid))

        def gradient() -> Gradients:
            return passes.of_architecture(step.valid).gradients

        gradients = direction(passes.architecture, first.gradients, gradient, rho, epsilon, look_behind, rate)
        return first._replace(gradients=tuple(gradients))

    return found


def direction(
    alphas: Tensors,
    first: Gradients,
    gradient: Callable[[], Gradients],
    rho: float,
    epsilon: float,
    look_behind: int = 1,
    rate: float = 3e-4,
) -> list[Tensor | None]:
    """At the end of a climb g + rho H g, with H g by a central difference; afterwards the parameters are what they were.

    The Hessian H is that at the end of the climb, as in the authors' code, not that at its start.

    Args:
        alphas: architecture parameters, of any shape; are written to.
        first: gradients of the loss at them.
        gradient: of the loss with the parameters as they then are.
        rho: see `flat`, as for all that follow.
        epsilon: half the width of the difference.
        look_behind: steps of the climb.
        rate: of the sum that leads in the place of g, for more than one step.
    """
    with restored(alphas) as before:
        top, last, total = before, first, [torch.zeros_like(alpha) for alpha in before]
        for _ in range(look_behind):
            top = moved(top, last, rho)
            write(alphas, top)
            last = copies(gradient())
            total = moved(total, last, rate)
        lead: Gradients = last if look_behind == 1 else total
        bend = central_difference(alphas, top, lead, epsilon, gradient)
    return [None if g is None or b is None else g + rho * b for g, b in zip(lead, bend, strict=True)]
