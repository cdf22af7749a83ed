"""How functions are learned: the loss of numbers, the drift against complex operations, and the original's two kinds of search.

Definitions: AutoResearch/autora-theorist-darts (architect.py, regressor.py, utils.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.config.method import UNSEARCHED, Method
from midas.functions.network import mix_numbers
from midas.methods.composition import Composition, compose
from midas.methods.distributions import DISTRIBUTIONS
from midas.methods.field.fair import separation
from midas.methods.learning import Learning, Step
from midas.methods.passes import Loss
from midas.methods.static import StaticMixing
from midas.spaces import CellSpec, Space
from midas.spaces.functions import PRIMITIVES
from midas.supernet.weights import Mixing, Source

KINDS = {"original": "edge", "fair": "sigmoid"}
"""The original's kinds of search: the distribution of its static weights."""


def explained(found: Tensor, wanted: Tensor) -> Tensor:
    """Share of the variance of `wanted` [B, 1] that `found` explains, in percent; below 0 where the mean explains more."""
    left, whole = (found - wanted).square().mean(), (wanted - wanted.mean()).square().mean()
    return 100 * (1 - left / whole.clamp(min=torch.finfo(whole.dtype).tiny))


def squared(output: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error of values [B, 1], and the variance explained."""
    return F.mse_loss(output, wanted), explained(output.detach(), wanted)


def squared_sigmoid(output: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The same of the sigmoid of values."""
    return squared(output.sigmoid(), wanted)


OUTPUTS: dict[str, tuple[Loss, Callable[[Tensor], Tensor]]] = {
    "real": (squared, lambda x: x),
    **dict.fromkeys(("sigmoid", "probability", "probability_sample"), (squared_sigmoid, torch.sigmoid)),
}
"""Type of the output -> loss of a batch, and what is predicted from the network's value."""
NOT_OFFERED = {
    "class": "classes need an output for each, and all would be the same sum of nodes",
    "probability_distribution": "a softmax over the only output is 1 whatever the data",
}
"""Types of the output of which the original knows the names, and why they are refused."""


def drift(operations: Sequence[str], rate: float, factor: float) -> Tensor:
    """By how much the logits [O] of operations fall in a step, whatever their gradient: rate * factor * complexity.

    Args:
        operations: names of primitives.
        rate: learning rate of the architecture.
        factor: of the complexity, 3e-4 in the original.
    """
    return rate * factor * torch.tensor([PRIMITIVES[name].complexity for name in operations], dtype=torch.float64)


def drifting(operations: Sequence[str], rate: float, factor: float) -> Callable[[Step], None]:
    """Lets static logits drift before each step of their optimiser, see `Learning.before` and `drift`."""
    moves = drift(operations, rate, factor)

    @torch.no_grad()
    def before(step: Step) -> None:
        for source in {id(cell.mixing): cell.mixing for cell in step.passes.supernet.cells}.values():
            assert isinstance(source, StaticMixing)
            source.alpha.sub_(moves.to(source.alpha))

    return before


def original(kind: str, space: Space, rate: float, factor: float, weight: float = 1.0) -> Composition:
    """The original's search: static weights by softmax, or for `fair` by sigmoid with FairDARTS's term; both drift.

    Args:
        kind: a key of `KINDS`.
        space: of functions.
        rate: learning rate of the architecture.
        factor: of the drift.
        weight: of FairDARTS's term.
    """

    def source(spec: CellSpec, channels: int, fast: bool) -> Source:
        return StaticMixing(spec, space, DISTRIBUTIONS[KINDS[kind]])

    terms = (separation(weight),) if kind == "fair" else ()
    before = drifting(space.operations, rate, factor) if factor else None
    return Composition(space, Mixing(source, True, mix_numbers), Learning(terms=terms, before=before))


REFUSED = {
    "offer_none": "name none among the primitives",
    "partial": "a number has one channel",
    "extra_skip": "name add among the primitives",
    "sparse": "every edge is kept",
    "selection": "it needs a validation half",
    "oles": "it needs a validation half",
    "taken": "it needs a validation half",
}
"""Parts of a method that functions have no use for, and why."""


def composed(method: Method, space: Space, epochs: int) -> Composition:
    """Any method of the project on a space of functions, as far as it goes.

    Raises:
        ValueError: it has a part that functions have no use for, see `REFUSED`, or it is random.
    """
    for key, reason in REFUSED.items():
        if getattr(method, key):
            raise ValueError(f"method: {key} is not allowed over functions; {reason}")
    if method.weights in UNSEARCHED or method.mixing == "patch" or (method.dirichlet and method.dirichlet.keep):
        raise ValueError("method: random cells, mixing: patch and stages of dirichlet are not allowed over functions")
    found = compose(method, space, epochs)
    return replace(found, mixing=found.mixing._replace(mix=mix_numbers))
