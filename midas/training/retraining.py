"""How is a found cell trained on small images? An epoch of it, and a test."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter
from torch import Tensor

from midas.config.settings import Retrain
from midas.images.seeds import seed_step
from midas.networks.skeletons import Skeleton, set_drop_path
from midas.running.limits import leave_if_asked
from midas.training.trainer import Batches, Sums, Training


class Retraining(Training[Retrain]):
    """A network in training on batches that lie on its device."""

    def __init__(self, network: Skeleton, settings: Retrain, seed: int):
        super().__init__(network, settings, seed, settings.nesterov)
        self.schedule = CosineLRScheduler(self.optimizer, t_initial=settings.epochs)

    def train(self, batches: Batches, epoch: int, after_step: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train what is left of an epoch (they count from 0) and say how it went."""
        self.schedule.step(epoch)
        set_drop_path(self.network, self.settings.drop_path * epoch / self.settings.epochs)
        self.network.train()
        self.sums.begin("losses", "hits")
        # tensors throughout, so that the device is never waited for
        losses, hits = self.sums.meters["losses"], self.sums.meters["hits"]
        for step, (x, y) in enumerate(batches, self.sums.step):
            seed_step(self.seed, "drop_path", epoch, step)
            loss, logits = self._step(x, y)
            losses.update(loss.double(), len(y))
            hits.update(_hits(logits, y), len(y))
            self.sums.bad.look(loss, step)
            self.sums.step = step + 1
            after_step()
        self.sums.bad.check("retrain", epoch)
        self.sums = Sums()
        lr = self.optimizer.param_groups[0]["lr"]
        return {"lr": lr, "train_loss": float(losses.avg), "train_accuracy": _percent(hits)}

    @torch.no_grad()
    def test(self, batches: Batches) -> dict[str, float]:
        """Loss and top-1 accuracy in percent of the evaluated network."""
        network = self.evaluated.eval()
        losses, hits = AverageMeter(), AverageMeter()
        for step, (x, y) in enumerate(batches):
            leave_if_asked("retrain")
            seed_step(self.seed, "noise", 0, step)  # a cell of S4 may hold the operation "noise"
            with self._autocast():
                logits = network(self._layout(x))
            losses.update(F.cross_entropy(logits.float(), y).double(), len(y))
            hits.update(_hits(logits, y), len(y))
        return {"test_loss": float(losses.avg), "test_accuracy": _percent(hits)}


def _hits(logits: Tensor, y: Tensor) -> Tensor:
    """Share of the images whose class has the largest logit."""
    return (logits.argmax(1) == y).double().mean()


def _percent(hits: AverageMeter) -> float:
    return round(100 * float(hits.avg), 6)
