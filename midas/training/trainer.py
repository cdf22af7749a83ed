"""What is a network in training, on small images or large ones? What it learns with, one update of it, and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, ModelEmaV3
from torch import Tensor, nn

from midas.config.settings import Retrain, Transfer
from midas.networks.skeletons import Skeleton
from midas.running.durable import FirstBad
from midas.running.memory import keep_freed_memory
from midas.training.found_network import memory_format

Settings = TypeVar("Settings", Retrain, Transfer)
Batches = Iterable[tuple[Tensor, Tensor]]


class Sums:
    """What an epoch has come to so far: the steps that are done, and means over their images."""

    def __init__(self) -> None:
        self.step, self.bad = 0, FirstBad()
        self.meters: dict[str, AverageMeter] = {}

    def begin(self, *names: str) -> None:
        """Begin with these means, unless they were begun already."""
        self.meters = self.meters or {name: AverageMeter() for name in names}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "meters": {name: [m.sum, m.count] for name, m in self.meters.items()}}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        for name, (total, count) in state["meters"].items():
            meter = self.meters[name] = AverageMeter()
            meter.sum, meter.count = total.to(device), count
            meter.avg = meter.sum / count


class Training(Generic[Settings]):
    """A network with all that changes while it is trained.

    Args:
        network: on the device that it is trained on.
        settings: the protocol.
        seed: of what is drawn in training, which is a function of seed, epoch and step.
        nesterov: SGD with Nesterov's momentum.
    """

    settings: Settings

    def __init__(self, network: Skeleton, settings: Settings, seed: int, nesterov: bool = False):
        self.network, self.settings, self.seed = network, settings, seed
        self.device = next(network.parameters()).device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.forward: Callable[[Tensor], tuple[Tensor, Tensor | None]] = network.forward_auxiliary
        self.optimizer = create_optimizer_v2(
            network,
            opt="sgd" if nesterov else "momentum",
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            filter_bias_and_bn=False,  # DARTS and NAS-Bench-201 decay every parameter
        )
        self.ema = ModelEmaV3(network, decay=settings.ema) if settings.ema else None
        self.sums = Sums()

    @property
    def alone(self) -> bool:
        """Whether it can save at any step, without other processes."""
        return True

    @property
    def evaluated(self) -> nn.Module:
        """The network that is tested and kept: that of the averaged weights where there is one."""
        return self.ema.module if self.ema else self.network

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One update on images and their classes, int64 [B] or shares [B, classes]; the loss and the logits before it."""
        with self._autocast():
            logits, auxiliary = self.forward(self._layout(x))
        loss = total = self._loss(logits, y)
        if auxiliary is not None:
            total = loss + self.settings.auxiliary * self._loss(auxiliary, y)
        self.optimizer.zero_grad()
        total.backward()
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.network)
        return loss.detach(), logits.detach()

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), y, label_smoothing=self.settings.label_smoothing)

    def _layout(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=memory_format(self.settings))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def within(self) -> dict[str, Any]:
        """Where in an epoch this is, for a checkpoint."""
        return self.sums.state()

    def go_on(self, within: dict[str, Any]) -> None:
        """Go on in the midst of an epoch."""
        self.sums.restore(within, self.device)

    def _parts(self) -> dict[str, Any]:
        parts = {"network": self.network, "optimizer": self.optimizer}
        return parts | ({"ema": self.ema.module} if self.ema else {})

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs in order to go on as if nothing had happened."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another training of the same run."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
