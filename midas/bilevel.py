"""The two kinds of step of a first-order bilevel search (DARTS), and what they add up to in an epoch."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.durable import FirstBad
from midas.memory import keep_freed_memory
from midas.passes import Pass, Replayed, TrainingPass
from midas.settings import Method, Search
from midas.spaces import get_space
from midas.supernet import Supernet


class Averages:
    """Sums over the batches of an epoch, kept on the device until its end."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.batches = 0
        self.bad = FirstBad()

    def add(self, **values: Tensor | None) -> None:
        """Add one batch's values."""
        self.batches += 1
        for name, value in values.items():
            if value is not None:
                if name.endswith("loss"):
                    self.bad.look(value, self.batches - 1)
                self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value

    def mean(self, name: str) -> np.ndarray | None:
        """Mean over batches, in double precision; None for what was never added."""
        return (self.sums[name].double() / self.batches).cpu().numpy() if name in self.sums else None

    def number(self, name: str) -> float:
        """Mean of a scalar."""
        return float(self.sums[name].double() / self.batches)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": self.sums, "batches": self.batches}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.sums, self.batches = {name: value.to(device) for name, value in state["sums"].items()}, state["batches"]


class FirstOrder:
    """Both optimisers of a search and the two kinds of step."""

    def __init__(self, supernet: Supernet, settings: Search, device: torch.device):
        self.supernet, self.settings, self.device = supernet, settings, device
        self.weights, self.architecture = supernet.weight_parameters(), supernet.architecture_parameters()
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        # frozen projections leave nothing to train
        self.architecture_optimizer = (
            torch.optim.Adam(
                self.architecture, settings.arch_lr, settings.arch_betas, weight_decay=settings.arch_weight_decay
            )
            if self.architecture
            else None
        )
        self._architecture_pass: Pass = partial(self._pass, self.architecture)
        self._weight_pass: Pass = partial(self._pass, self.weights)
        if settings.cuda_graph and device.type == "cuda":
            self._architecture_pass, self._weight_pass = Replayed(self._architecture_pass), Replayed(self._weight_pass)

    def lr(self, epoch: int) -> float:
        """Learning rate of the weights in an epoch (from 0): a cosine from lr to lr_min."""
        s = self.settings
        return s.lr_min + (s.lr - s.lr_min) * (1 + math.cos(math.pi * epoch / s.epochs)) / 2

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy (percent) of a batch."""
        if self.settings.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            logits = self.supernet(x)
        return F.cross_entropy(logits.float(), y), (logits.detach().argmax(1) == y).float().mean() * 100

    def architecture_step(self, x: Tensor, y: Tensor, averages: Averages, learns: bool = True) -> None:
        """One step of the architecture parameters, or a mere look at them, its statistics added to `averages`."""
        found = self._architecture_pass(x, y) if learns else self._pass([], x, y)
        p, pi = found.p, found.pi
        averages.add(
            valid_loss=found.loss, valid_accuracy=found.accuracy, entropy=_entropy(p), p=p.mean(0), pi=_mean(pi)
        )
        if learns and self.architecture_optimizer is not None:
            _set_gradients(self.architecture, found.gradients)
            self.architecture_optimizer.step()

    def weight_step(self, x: Tensor, y: Tensor, averages: Averages) -> None:
        """One step of the weights."""
        found = self._weight_pass(x, y)
        averages.add(train_loss=found.loss, train_accuracy=found.accuracy)
        _set_gradients(self.weights, found.gradients)
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.weight_optimizer.step()

    def _pass(self, parameters: list[nn.Parameter], x: Tensor, y: Tensor) -> TrainingPass:
        """Forward, and backward to these parameters alone: half of it is saved, and the maps that the others would need."""
        chosen = {id(parameter) for parameter in parameters}
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(id(parameter) in chosen)
        with torch.set_grad_enabled(bool(parameters)):
            loss, accuracy = self.loss(x, y)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if parameters else ()
        for parameter in (*self.weights, *self.architecture):
            parameter.requires_grad_(True)
        return TrainingPass(loss.detach(), accuracy, gradients, *self.supernet.mixture())

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        optimizer = self.architecture_optimizer
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture_optimizer": optimizer.state_dict() if optimizer else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        if self.architecture_optimizer is not None:
            self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])


def _set_gradients(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _mean(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.mean(0)


def _entropy(p: Tensor) -> Tensor:
    """Mean entropy in nats of the distribution over the operations of an edge, p [images, cells, edges, operations]."""
    share = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    return torch.special.entr(share).sum(-1).mean()


def make_supernet(space: str, method: Method, settings: Search, classes: int, device: torch.device) -> Supernet:
    """The supernet that a search begins with, on its device and in its memory layout."""
    if settings.fast and device.type == "cpu":
        keep_freed_memory()
    merged = device.type == "cuda" if settings.merge_edges is None else settings.merge_edges
    supernet = Supernet(
        get_space(space), method, settings.channels, settings.cells, classes, merged=merged, fast=settings.fast
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return supernet.to(device).to(memory_format=layout)


class Sums:
    """What an epoch has come to so far: the steps that are done, and sums over them."""

    def __init__(self) -> None:
        self.step, self.train, self.valid = 0, Averages(), Averages()

    def check(self, epoch: int) -> None:
        """Stop where a loss isn't finite; epochs count from 0."""
        min(self.valid.bad, self.train.bad, key=FirstBad.number).check("search", epoch)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "train": self.train.state(), "valid": self.valid.state()}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        self.train.restore(state["train"], device)
        self.valid.restore(state["valid"], device)
