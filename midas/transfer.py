"""Train a found cell from scratch on a folder of large images and test it after every epoch, by timm.

``python -m midas.transfer RUN FOLDER`` writes `history.csv`, `model.safetensors` and, last, `metrics.json`; on several GPUs
of one node (on a CPU: processes) ``torchrun --standalone --nproc-per-node N -m midas.transfer RUN FOLDER`` does. It can be
killed at any moment: started again, it continues after the last finished epoch and ends with the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.data import Mixup
from timm.scheduler import PolyLRScheduler
from timm.utils import AverageMeter, accuracy, distribute_bn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midas.checkpoint import Checkpoint
from midas.count import count
from midas.data import seed_step
from midas.genotype import Genotype
from midas.genotype import load as load_genotype
from midas.networks import Skeleton, build, set_drop_path
from midas.operations import Noise
from midas.photos import PhotoLoader
from midas.plan import TransferRun
from midas.processes import Group, join
from midas.progress import Progress
from midas.provenance import digest, write_metrics, write_table
from midas.settings import Transfer
from midas.step import main
from midas.training import Batches, History, Training, check_finite, memory_format, resume, save_network

MOBILE_LIMIT = 600_000_000
"""The mobile setting: networks of fewer multiply-adds for one image."""


class _WithAuxiliary(nn.Module):
    """What DistributedDataParallel calls."""

    def __init__(self, network: Skeleton):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.network.forward_auxiliary(x)


class Trainer(Training[Transfer]):
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

    def train(self, batches: Batches, epoch: int) -> dict[str, float]:
        """Train one epoch (they count from 0) and say how it went; the learning rate is that of its last update."""
        set_drop_path(self.network, self.settings.drop_path * epoch / self.settings.epochs)
        self.network.train()
        losses = AverageMeter()
        for step, (x, y) in enumerate(batches):
            self.schedule.step_update(epoch * self.updates + step)
            self._seed("step", epoch, step)
            if self.mixup:
                x, y = self.mixup(x, y)
            losses.update(self._step(x, y)[0].double())
        if self.group.size > 1:  # BatchNorm's running statistics are those of a process's own images
            for network in dict.fromkeys([self.network, self.evaluated]):
                distribute_bn(network, self.group.size, reduce=True)
        (loss,) = self.group.total(losses.avg)
        return {"lr": self.optimizer.param_groups[0]["lr"], "train_loss": loss / self.group.size}

    @torch.no_grad()
    def test(self, batches: Batches) -> dict[str, float]:
        """Loss, top-1 and top-5 accuracy in percent of the evaluated network."""
        network, zero = self.evaluated.eval(), torch.zeros((), dtype=torch.float64, device=self.device)
        images, loss, top1, top5 = zero, zero, zero, zero
        for step, (x, y) in enumerate(batches):
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


def transfer(run: TransferRun, folder: Path) -> None:
    """Train the network of a genotype on large images and write the outputs.

    Raises:
        ValueError: an input can't be used, or the loss is no longer finite.
    """
    torch.set_num_threads(run.threads)
    group = join(run.device, run.transfer.gpus)
    try:
        _transfer(run, folder, group)
    finally:
        if group.size > 1:
            dist.destroy_process_group()


def _transfer(run: TransferRun, folder: Path, group: Group) -> None:
    start = time.monotonic()
    genotype = load_genotype(Path(run.genotype))
    train, test = (PhotoLoader(run.dataset, run.transfer, run.seed, group, training) for training in (True, False))
    network = _network(run, genotype, group.device)
    trainer = Trainer(network, run.transfer, run.seed, run.dataset.classes, len(train), group)
    # the cell itself: another search may have written the same path
    identity = {"config": run.model_dump(mode="json"), "genotype": str(genotype), "source_digest": digest("transfer")}
    checkpoint = Checkpoint(folder.with_name(f"{folder.name}_checkpoint"), identity)
    history, before = _resume(trainer, checkpoint, group)
    for row in _epochs(trainer, train, test, len(history)):
        history.append(row)
        if group.rank == 0:
            seconds = before + time.monotonic() - start
            checkpoint.save({"trainer": trainer.state_dict(), "history": history, "seconds": seconds})
    if group.rank == 0:
        write_table(folder / "history.csv", history)
        save_network(trainer.evaluated, genotype, folder / "model.safetensors")
        numbers = _numbers(network, history, run.dataset.image, len(train.photos), len(test.photos))
        seconds = before + time.monotonic() - start
        write_metrics(folder / "metrics.json", "transfer", run, numbers, seconds, group.device)


def _network(run: TransferRun, genotype: Genotype, device: torch.device) -> Skeleton:
    settings, classes = run.transfer, run.dataset.classes
    seed_step(run.seed, "weights", 0, 0)
    auxiliary = settings.auxiliary > 0
    network = build(genotype, settings.channels, settings.cells, classes, auxiliary, imagenet=True)
    return network.to(device).to(memory_format=memory_format(settings))


def _resume(trainer: Trainer, checkpoint: Checkpoint, group: Group) -> tuple[History, float]:
    """Go on from a checkpoint; the first process looks first, since it sets one of another run aside."""
    if group.rank > 0:
        dist.barrier()
    found = resume(trainer, checkpoint)
    if group.rank == 0 and group.size > 1:
        dist.barrier()
    return found


def _epochs(trainer: Trainer, train: PhotoLoader, test: PhotoLoader, done: int) -> Iterator[dict[str, float]]:
    """Train the epochs that are left; a row of the history for each."""
    epochs, first = trainer.settings.epochs, trainer.group.rank == 0
    progress = Progress(epochs, "transfer")
    for epoch in range(done, epochs):
        batches = train.epoch(epoch)
        row = trainer.train(progress.steps(batches, len(train), epoch) if first else batches, epoch)
        row |= trainer.test(test.in_order())
        check_finite(row, epoch, "transfer")
        if first:
            progress.epoch(epoch, **row)
        yield {"epoch": epoch + 1, **row}


def _numbers(
    network: Skeleton, history: History, image: tuple[int, int], train_images: int, test_images: int
) -> dict[str, Any]:
    params, multiply_adds = count(network, image)
    last = {name: history[-1][name] for name in ("test_top1", "test_top5", "test_loss", "train_loss")}
    return last | {
        "params": params,
        "multiply_adds": multiply_adds,
        "mobile_setting": multiply_adds < MOBILE_LIMIT,
        "train_images": train_images,
        "test_images": test_images,
        "epochs": len(history),
    }


if __name__ == "__main__":
    main(TransferRun, transfer)
