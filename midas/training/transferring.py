"""How is a found cell trained on large images, by one process or several? An epoch of it, and a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.scheduler import PolyLRScheduler
from timm.utils import accuracy, distribute_bn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midas.config.settings import Transfer
from midas.images.seeds import seed_step
from midas.networks.operations import Noise
from midas.networks.skeletons import Skeleton, set_drop_path
from midas.running.limits import leave_if_asked, sign_of_life
from midas.running.processes import Group
from midas.training.trainer import Batches, Sums, Training


class _WithAuxiliary(nn.Module):
    """What DistributedDataParallel calls."""

    def __init__(self, network: Skeleton):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.network.forward_auxiliary(x)


class Transferring(Training[Transfer]):
    """A network in training by one or several processes.

    Args:
        network: on the device of this process.
        settings: the protocol.
        seed: of drop-path and mixing, which are a function of seed, process, epoch and step.
        classes: number of classes.
        updates: number of batches in an epoch.
        group: the processes that train together.
    """

    def __init__(self, network: Skeleton, settings: Transfer, seed: int, classes: int, updates: int, group: Group):
        super().__init__(network, settings, seed)
        self.group, self.updates = group, updates
        if group.size > 1:
            cut_off = any(isinstance(module, Noise) for module in network.modules())  # it passes no gradient on
            self.forward = DistributedDataParallel(_WithAuxiliary(network), find_unused_parameters=cut_off)
        warmup = settings.warmup_epochs * updates
        self.schedule = PolyLRScheduler(
            self.optimizer,
            t_initial=settings.epochs * updates - warmup,
            power=1.0,
            warmup_t=warmup,
            warmup_lr_init=settings.lr / max(warmup, 1),
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.mixup = _mixup(settings, classes, group.size)

    @property
    def alone(self) -> bool:
        """Whether no other process trains with it."""
        return self.group.size == 1

    def train(self, batches: Batches, epoch: int, after_step: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train what is left of an epoch (they count from 0); says how it went, with the learning rate of its last update."""
        set_drop_path(self.network, self.settings.drop_path * epoch / self.settings.epochs)
        self.network.train()
        self.sums.begin("losses")
        losses = self.sums.meters["losses"]
        for step, (x, y) in enumerate(batches, self.sums.step):
            self.schedule.step_update(epoch * self.updates + step)
            self._seed("step", epoch, step)
            if self.mixup:
                x, y = self.mixup(x, y)
            loss = self._step(x, y)[0]
            losses.update(loss.double())
            self.sums.bad.look(loss, step)
            self.sums.step = step + 1
            sign_of_life()
            after_step()
        self.sums.bad.check("transfer", epoch)
        self.sums = Sums()
        if self.group.size > 1:  # BatchNorm's running statistics are those of a process's own images
            for network in dict.fromkeys([self.network, self.evaluated]):
                distribute_bn(network, self.group.size, reduce=True)
        (total,) = self.group.total(losses.avg)
        return {"lr": self.optimizer.param_groups[0]["lr"], "train_loss": total / self.group.size}

    @torch.no_grad()
    def test(self, batches: Batches) -> dict[str, float]:
        """Loss, top-1 and top-5 accuracy in percent of the evaluated network."""
        network, zero = self.evaluated.eval(), torch.zeros((), dtype=torch.float64, device=self.device)
        images, loss, top1, top5 = zero, zero, zero, zero
        for step, (x, y) in enumerate(batches):
            leave_if_asked("transfer")
            sign_of_life()
            self._seed("noise", 0, step)  # a cell of S4 may hold the operation "noise"
            with self._autocast():
                logits = network(self._layout(x)).float()
            hits1, hits5 = accuracy(logits, y, topk=(1, 5))
            images = images + len(y)
            loss = loss + F.cross_entropy(logits, y, reduction="sum").double()
            top1, top5 = top1 + hits1.double() * len(y), top5 + hits5.double() * len(y)
        count, *sums = self.group.total(images, loss, top1, top5)
        mean_loss, *shares = (value / count for value in sums)
        return {"test_loss": mean_loss, "test_top1": round(shares[0], 4), "test_top5": round(shares[1], 4)}

    def within(self) -> dict[str, Any]:
        """Where in an epoch this is; what each process has of its own: its mean loss, and BatchNorm's running statistics."""
        own = torch.cat([self.sums.meters["losses"].sum.view(1), *(b.flatten().double() for b in self._buffers())])
        return {**self.sums.state(), "own": self.group.gather(own)}

    def go_on(self, within: dict[str, Any]) -> None:
        """Go on in the midst of an epoch."""
        super().go_on(within)
        own = within["own"][self.group.rank].to(self.device)
        losses, buffers = self.sums.meters["losses"], self._buffers()
        losses.sum, losses.avg = own[0], own[0] / losses.count
        for buffer, values in zip(buffers, own[1:].split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))

    def _buffers(self) -> list[Tensor]:
        return [b for network in dict.fromkeys([self.network, self.evaluated]) for b in network.buffers()]

    def _seed(self, stream: str, epoch: int, step: int) -> None:
        """Seed torch's generators, and NumPy's, which mixing draws from."""
        seed_step(self.seed, f"{stream} {self.group.rank}", epoch, step)
        np.random.seed(torch.initial_seed() % 2**32)


def _mixup(settings: Transfer, classes: int, processes: int) -> Mixup | None:
    """Mixup and cutmix of timm; the labels are smoothed by the loss, not here."""
    if not (settings.mixup or settings.cutmix):
        return None
    if settings.batch_size // processes % 2:
        raise ValueError(
            f"batch_size: {settings.batch_size} is not allowed; mixup and cutmix need an even one on each GPU"
        )
    return Mixup(settings.mixup, settings.cutmix, label_smoothing=0.0, num_classes=classes)
