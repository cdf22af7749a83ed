"""The two kinds of step of a bilevel search (DARTS): both optimisers, and what moves with them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from midas.config.settings import Search
from midas.methods.composition import Composition
from midas.methods.learning import Learning, Step
from midas.methods.passes import Batch, Passes
from midas.methods.restrictions import Restrictions
from midas.running.memory import keep_freed_memory
from midas.supernet import Supernet
from midas.training.sums import Averages, SearchSums, entropy


class Bilevel:
    """Both optimisers of a search and the two kinds of step.

    Args:
        supernet: on its device.
        settings: of the search.
        device: the supernet's.
        learning: where the gradients of both steps come from.
    """

    def __init__(self, supernet: Supernet, settings: Search, device: torch.device, learning: Learning | None = None):
        self.supernet, self.settings, self.device = supernet, settings, device
        supernet.whole = settings.cuda_graph  # a graph can't leave out what a draw says
        self.learning = learning or Learning()
        self.passes = Passes(supernet, settings, device, self.learning.terms, self.learning.loss)
        self.restrictions = Restrictions(supernet)
        self.weights, self.architecture = self.passes.weights, self.passes.architecture
        # a graph holds its numbers: a rate that changes is a tensor, which fused optimisers read on the device, as Adam's count
        graph = {"fused": True} if settings.cuda_graph else {}
        rate = torch.tensor(settings.lr, device=device) if graph else settings.lr
        self.weight_optimizer = torch.optim.SGD(
            [{"params": self.weights}],  # there may be none
            rate,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
            **graph,
        )
        # frozen projections leave nothing to train
        self.architecture_optimizer = (
            torch.optim.Adam(
                supernet.architecture_groups(), settings.arch_lr, settings.arch_betas,
                weight_decay=settings.arch_weight_decay, capturable=bool(graph), **graph,
            )
            if self.architecture
            else None
        )  # fmt: skip

    def begin(self, epoch: int) -> None:
        """Begin an epoch, with its learning rate; schedules stay where they end in epochs that follow those of the search."""
        late = self.learning.late_rate is not None and epoch >= self.settings.epochs
        self.passes.epoch.fill_(self.settings.epochs - 1 if late else epoch)
        self.supernet.begin(self.passes.epoch)
        self.take_rate(self.lr(epoch))

    def take_rate(self, rate: float) -> None:
        """From here on the weights learn at this rate."""
        for group in self.weight_optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def lr(self, epoch: int) -> float:
        """Learning rate of the weights in an epoch (from 0): a cosine from lr to lr_min, then a constant."""
        s, late = self.settings, self.learning.late_rate
        if late is not None and epoch >= s.epochs:
            return late * s.lr
        return s.lr_min + (s.lr - s.lr_min) * (1 + math.cos(math.pi * epoch / s.epochs)) / 2

    def forget(self) -> None:
        """Take the momentum off the weights, in place, as a recorded step wants it."""
        for state in self.weight_optimizer.state.values():
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].zero_()

    def step(self, train: Batch, valid: Batch, sums: SearchSums, learns: bool = True) -> None:
        """A bilevel step: one of the architecture on `valid`, and one of the weights on `train`, in the order of the settings."""
        if self.settings.order == "weights_first":
            self.weight_step(train, valid, sums.train)
        self.architecture_step(train, valid, sums.valid, learns)
        if self.settings.order == "architecture_first":
            self.weight_step(train, valid, sums.train)

    def architecture_step(self, train: Batch, valid: Batch, averages: Averages, learns: bool = True) -> None:
        """One step of the architecture parameters, or a mere look at them, its statistics added to `averages`."""
        step = Step(self.passes, train, valid, self.weight_optimizer, self.restrictions)
        found = self.learning.architecture(step) if learns else self.passes.forward(valid)
        settled = self.supernet.settled()  # where weights are drawn, what they are drawn from says more
        p, pi = found.p if settled is None else settled, found.pi
        averages.add(
            valid_loss=found.loss, valid_accuracy=found.accuracy, entropy=entropy(p), p=p.mean(0), pi=_mean(pi)
        )
        if learns and self.architecture_optimizer is not None:
            _set_gradients(self.architecture, found.gradients, self.settings.cuda_graph)
            if self.learning.before is not None:
                self.learning.before(step)
            self.architecture_optimizer.step()

    def weight_step(self, train: Batch, valid: Batch, averages: Averages) -> None:
        """One step of the weights."""
        step = Step(self.passes, train, valid, self.weight_optimizer, self.restrictions)
        found = self.learning.weights(step)
        averages.add(train_loss=found.loss, train_accuracy=found.accuracy, alignment=found.alignment)
        _set_gradients(self.weights, found.gradients, self.settings.cuda_graph)
        self.restrictions.still()
        if self.settings.clip:
            counted = [*self.weights, *self.architecture] if self.settings.clip_architecture else self.weights
            _clip(counted, self.supernet.skip_parameters(), self.settings.clip)
        self.weight_optimizer.step()
        self.restrictions.put_back()
        if self.learning.after is not None:
            self.learning.after(step)

    def norm(self) -> float:
        """Norm of all architecture parameters together; 0 where there are none to learn."""
        return float(torch.nn.utils.get_total_norm(self.architecture)) if self.architecture else 0.0

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        optimizer = self.architecture_optimizer
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "architecture_optimizer": optimizer.state_dict() if optimizer else None,
            **self.restrictions.state(),
            **(
                {"architecture_gradients": [p.grad for p in self.architecture]}
                if self.settings.clip_architecture
                else {}
            ),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.supernet.load_state_dict(state["supernet"])
        self.restrictions.restore(state)
        for parameter, gradient in zip(self.architecture, state.get("architecture_gradients", ()), strict=False):
            parameter.grad = (
                None if gradient is None else gradient.to(parameter.device)
            )  # the norm that is clipped counts it
        for name, optimizer in (("weight", self.weight_optimizer), ("architecture", self.architecture_optimizer)):
            # its own groups: a search may go on with a graph that was begun without, or the reverse
            if optimizer is not None:
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict(state[f"{name}_optimizer"] | {"param_groups": groups})


def _set_gradients(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...], alike: bool) -> None:
    """Hand gradients to an optimiser, `alike` in the layout of the parameters, which a fused one wants."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if alike and gradient is not None and gradient.stride() != parameter.stride():
            gradient = torch.empty_like(parameter).copy_(gradient)
        parameter.grad = gradient


def _clip(weights: list[nn.Parameter], skips: list[nn.Parameter], largest: float) -> None:
    """Clip gradients to the norm of all together; that of the extra skips is added last, so that one of 0 changes no rounding."""
    apart = {id(skip) for skip in skips}
    norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None and id(w) not in apart])
    if skips:
        norm = torch.hypot(norm, torch.nn.utils.get_total_norm([s.grad for s in skips if s.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(weights, largest, norm)


def _mean(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.mean(0)


def make_supernet(composition: Composition, settings: Search, classes: int, device: torch.device) -> Supernet:
    """The supernet that a search begins with, on its device and in its memory layout."""
    if settings.fast and device.type == "cpu":
        keep_freed_memory()
    merged = device.type == "cuda" if settings.merge_edges is None else settings.merge_edges
    how = {"merged": merged, "fast": settings.fast, "triton": settings.triton and device.type == "cuda"}
    supernet = composition.supernet(settings.channels, settings.cells, classes, **how)
    if settings.statistics == "running":
        supernet.keep_statistics()
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return supernet.to(device).to(memory_format=layout)
