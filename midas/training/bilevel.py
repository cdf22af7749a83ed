"""The two kinds of step of a first-order bilevel search (DARTS), and what they add up to in an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.config.settings import Method, Search
from midas.images.loader import Draws, Loader
from midas.running.durable import FirstBad
from midas.running.memory import keep_freed_memory
from midas.spaces import get_space
from midas.supernet import Supernet
from midas.training.recorded import Recorded, TrainingPass

Batch = tuple[Tensor, Tensor]
"""Images [B, 3, height, width] and labels [B]."""


class Averages:
    """Sums over the batches of an epoch, kept on the device until its end, in tensors that stay where they are."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count: Tensor | None = None
        self.bad = FirstBad()

    @property
    def batches(self) -> int:
        """Batches that were added."""
        return 0 if self.count is None else int(self.count)

    def add(self, **values: Tensor | None) -> None:
        """Add one batch's values."""
        for name, value in values.items():
            if value is not None:
                if self.count is None:
                    self.count = torch.zeros((), dtype=torch.int64, device=value.device)
                if name.endswith("loss"):
                    self.bad.look(value, self.count)
                if name not in self.sums:
                    self.sums[name] = torch.zeros_like(value)
                self.sums[name] += value
        assert self.count is not None
        self.count += 1

    def clear(self) -> None:
        """Begin anew."""
        for kept in (*self.sums.values(), self.count):
            if kept is not None:
                kept.zero_()
        self.bad.clear()

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
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.count = torch.tensor(state["batches"], device=device)


class FirstOrder:
    """Both optimisers of a search and the two kinds of step."""

    def __init__(self, supernet: Supernet, settings: Search, device: torch.device):
        self.supernet, self.settings, self.device = supernet, settings, device
        self.weights, self.architecture = supernet.weight_parameters(), supernet.architecture_parameters()
        # a graph holds its numbers: a rate that changes is a tensor, which fused optimisers read on the device, as Adam's count
        graph = {"fused": True} if settings.cuda_graph else {}
        rate = torch.tensor(settings.lr, device=device) if graph else settings.lr
        self.weight_optimizer = torch.optim.SGD(
            self.weights, rate, settings.momentum, weight_decay=settings.weight_decay, **graph
        )
        # frozen projections leave nothing to train
        self.architecture_optimizer = (
            torch.optim.Adam(
                self.architecture, settings.arch_lr, settings.arch_betas, weight_decay=settings.arch_weight_decay,
                capturable=bool(graph), **graph,
            )
            if self.architecture
            else None
        )  # fmt: skip

    def begin(self, epoch: int) -> None:
        """Set the learning rate of an epoch."""
        for group in self.weight_optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.lr(epoch))
            else:
                group["lr"] = self.lr(epoch)

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

    def step(self, train: Batch, valid: Batch, sums: Sums, learns: bool = True) -> None:
        """A bilevel step: one of the architecture on `valid`, then one of the weights on `train`."""
        self.architecture_step(*valid, sums.valid, learns)
        self.weight_step(*train, sums.train)

    def architecture_step(self, x: Tensor, y: Tensor, averages: Averages, learns: bool = True) -> None:
        """One step of the architecture parameters, or a mere look at them, its statistics added to `averages`."""
        found = self._pass(self.architecture if learns else [], x, y)
        p, pi = found.p, found.pi
        averages.add(
            valid_loss=found.loss, valid_accuracy=found.accuracy, entropy=_entropy(p), p=p.mean(0), pi=_mean(pi)
        )
        if learns and self.architecture_optimizer is not None:
            _set_gradients(self.architecture, found.gradients, self.settings.cuda_graph)
            self.architecture_optimizer.step()

    def weight_step(self, x: Tensor, y: Tensor, averages: Averages) -> None:
        """One step of the weights."""
        found = self._pass(self.weights, x, y)
        averages.add(train_loss=found.loss, train_accuracy=found.accuracy)
        _set_gradients(self.weights, found.gradients, self.settings.cuda_graph)
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
        for name, optimizer in (("weight", self.weight_optimizer), ("architecture", self.architecture_optimizer)):
            if (
                optimizer is not None
            ):  # its own groups: a search may go on with a graph that was begun without, or the reverse
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict(state[f"{name}_optimizer"] | {"param_groups": groups})


def _set_gradients(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...], alike: bool) -> None:
    """Hand gradients to an optimiser, `alike` in the layout of the parameters, which a fused one wants."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if alike and gradient is not None and gradient.stride() != parameter.stride():
            gradient = torch.empty_like(parameter).copy_(gradient)
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
    size = settings.channels, settings.cells, classes
    supernet = Supernet(
        get_space(space), method, *size, merged, settings.fast, settings.triton and device.type == "cuda"
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return supernet.to(device).to(memory_format=layout)


class Sums:
    """What an epoch has come to so far: the steps that are done, and sums over them."""

    def __init__(self) -> None:
        self.step, self.train, self.valid = 0, Averages(), Averages()

    def clear(self) -> None:
        """Begin an epoch."""
        self.step = 0
        self.train.clear()
        self.valid.clear()

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


class RecordedSteps:
    """The bilevel steps of a search as CUDA graphs: batches, both passes, both optimisers and the epoch's sums in one launch.

    An epoch's draws lie on the device before its first step; a step finds its own by a number that counts there.

    Args:
        method: takes the steps.
        loaders: of the training and the validation half.
        sums: of the epoch.
    """

    def __init__(self, method: FirstOrder, loaders: Sequence[Loader], sums: Sums):
        self.method, self.loaders, self.sums = method, loaders, sums
        self.next = torch.zeros(1, dtype=torch.int64, device=method.device)
        self.draws: list[Draws] = []
        self.graphs: dict[bool, Recorded] = {}

    def begin(self, epoch: int, first: int) -> None:
        """Draw an epoch, whose first step is the one of this number."""
        drawn = [loader.draw(epoch) for loader in self.loaders]
        self.draws = self.draws or drawn
        for kept, fresh in zip(self.draws, drawn, strict=True):
            for own, other in zip(kept, fresh, strict=True):
                if own is not None and other is not None:
                    own.copy_(other)
        self.next.fill_(first)

    def __call__(self, learns: bool) -> None:
        """Take the next step; see `FirstOrder.architecture_step`."""
        if learns not in self.graphs:
            self.graphs[learns] = Recorded(partial(self.compute, learns))
        self.graphs[learns]()

    def compute(self, learns: bool) -> None:
        """What is recorded."""
        train, valid = (
            loader.batch(drawn.at(self.next)) for loader, drawn in zip(self.loaders, self.draws, strict=True)
        )
        self.method.step(train, valid, self.sums, learns)
        self.next += 1
