"""A search for a function, on the project's steps: what an epoch is, how a cell is decoded, and its coefficients fitted again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from midas.config.settings import Search
from midas.functions.network import FunctionNetwork, mix_numbers
from midas.methods.composition import Composition
from midas.methods.decoding import decode_weights
from midas.methods.distributions import edge_softmax
from midas.methods.learning import Learning
from midas.methods.passes import Batch, Loss
from midas.methods.static import StaticMixing
from midas.spaces.functions import chosen_space
from midas.supernet.weights import Mixing
from midas.training.bilevel import Bilevel
from midas.training.sums import SearchSums


class DivergedError(ValueError):
    """A loss is not finite."""


CPU = torch.device("cpu")


class Fit(NamedTuple):
    """How a function is searched for; defaults are the original's.

    Attributes:
        epochs: of the search.
        batch_size: rows in a batch.
        architecture_updates: steps of the architecture in an epoch, before those of the coefficients.
        updates: steps of the coefficients in an epoch.
        refit_updates: steps of the decoded function's coefficients.
        lr: learning rate of the coefficients at the start of an epoch.
        lr_min: and that towards which a cosine over its steps takes it.
        momentum: of the coefficients, none at the start of an epoch.
        weight_decay: of the coefficients.
        clip: largest norm of their gradient, 0 for no clipping.
        arch_lr: learning rate of the architecture, by Adam.
        arch_weight_decay: of the architecture.
    """

    epochs: int = 10
    batch_size: int = 64
    architecture_updates: int = 1
    updates: int = 10
    refit_updates: int = 100
    lr: float = 0.025
    lr_min: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    arch_lr: float = 3e-3
    arch_weight_decay: float = 1e-4

    def search(self) -> Search:
        """The settings of the project's bilevel steps."""
        return Search(
            cells=1, channels=1, epochs=max(1, self.epochs), lr=self.lr, lr_min=self.lr_min, momentum=self.momentum,
            weight_decay=self.weight_decay, clip=self.clip, arch_lr=self.arch_lr, arch_betas=(0.5, 0.999),
            arch_weight_decay=self.arch_weight_decay, channels_last=False, fast=False,
        )  # fmt: skip


def search(network: FunctionNetwork, composition: Composition, how: Fit, data: Batch) -> None:
    """Search from where the network is: both kinds of step on the same data, with optimisers of their own.

    Args:
        network: of the composition's space and mixing; changed in place.
        composition: the method.
        how: settings.
        data: inputs [n, d] and outputs [n, 1].

    Raises:
        DivergedError: a loss is not finite.
    """
    bilevel, sums = Bilevel(network, how.search(), CPU, composition.learning), SearchSums()
    for epoch in range(how.epochs):
        bilevel.begin(epoch)
        batches = _batches(data, how.batch_size)
        for _ in range(how.architecture_updates):
            batch = next(batches)
            bilevel.architecture_step(batch, batch, sums.valid, composition.learns(epoch))
        _learn_coefficients(bilevel, how, how.updates, data, sums)
        _check_finite(sums, f"epoch {epoch + 1}")
        sums.clear()


def decode(network: FunctionNetwork, data: Batch, by: Literal["max", "sample"]) -> tuple[str, ...]:
    """The operation of each edge: that with the largest weight, "none" included, or one drawn by the softmax of the logits.

    Where weights depend on the inputs, their mean over all rows decides; they are then drawn by it.

    Args:
        network: searched.
        data: inputs and outputs.
        by: "max" or "sample", which draws by torch's own generator.
    """
    source = network.cell.mixing
    with torch.no_grad():
        network(data[0])
        p = network.mixture()[0].mean(0)
        p = p if (settled := network.settled()) is None else settled[0]
        if by == "sample":
            shares = source.alpha.softmax(-1) if isinstance(source, StaticMixing) else p[0]
            return tuple(network.space.operations[int(o)] for o in torch.multinomial(shares, 1)[:, 0])
    nodes = decode_weights(p.double().numpy(), None, network.kinds, network.space).cells["cell"]
    return tuple(name for node in nodes for name, _ in node)  # ordered as the edges are, all of which are kept


def chosen(network: FunctionNetwork, operations: tuple[str, ...]) -> FunctionNetwork:
    """The function of one operation an edge with the coefficients that it has in a searched network; each has weight 1."""
    space = chosen_space(network.space, operations)
    mixing = Mixing(lambda spec, *_: StaticMixing(spec, space, edge_softmax), True, mix_numbers)
    found = FunctionNetwork(space, mixing)
    found.take_coefficients(network)
    return found


def refit(function: FunctionNetwork, how: Fit, loss: Loss, data: Batch) -> None:
    """Fit the coefficients of a decoded function; nothing where it has none.

    Raises:
        DivergedError: the loss is not finite.
    """
    bilevel, sums = Bilevel(function, how.search(), CPU, Learning(loss=loss)), SearchSums()
    if bilevel.weights:
        _learn_coefficients(bilevel, how, how.refit_updates, data, sums)
        _check_finite(sums, "the last fit of the coefficients")


def with_loss(composition: Composition, loss: Loss) -> Composition:
    """The same method with the loss of other data than images."""
    return replace(composition, learning=composition.learning._replace(loss=loss))


def rate(how: Fit, step: int, steps: int) -> float:
    """Learning rate of a step of the coefficients, from 0: half a cosine over the steps of an epoch."""
    return how.lr_min + (how.lr - how.lr_min) * (1 + math.cos(math.pi * step / steps)) / 2


def _learn_coefficients(bilevel: Bilevel, how: Fit, steps: int, data: Batch, sums: SearchSums) -> None:
    """So many steps of the coefficients, begun without momentum and at the first learning rate."""
    batches = _batches(data, how.batch_size)
    bilevel.forget()  # as a new optimiser has it
    for step in range(steps if bilevel.weights else 0):
        bilevel.take_rate(rate(how, step, steps))
        batch = next(batches)
        bilevel.weight_step(batch, batch, sums.train)


def _batches(data: Batch, size: int) -> Iterator[Batch]:
    """Batches of one shuffle, over and over; the last one of a round may be smaller."""
    order: Tensor = torch.randperm(len(data[0]))
    return cycle([(data[0][rows], data[1][rows]) for rows in order.split(size)])


def _check_finite(sums: SearchSums, when: str) -> None:
    losses = [
        part.number(name) for part, name in ((sums.train, "train_loss"), (sums.valid, "valid_loss")) if part.batches
    ]
    if not all(map(math.isfinite, losses)):
        raise DivergedError(
            f"fit: the loss is {losses[0]} in {when}; a smaller lr or fewer primitives (reciprocal, exp) may help"
        )
