"""Train a found cell from scratch on a folder of large images and test it after every epoch, by timm.

``python -m midas.transfer RUN FOLDER`` writes `history.csv`, `model.safetensors` and, last, `metrics.json`; on several GPUs
of one node (on a CPU: processes) ``torchrun --standalone --nproc-per-node N -m midas.transfer RUN FOLDER`` does. It can be
killed at any moment: started again, it goes on from its checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.data import Mixup
from timm.scheduler import PolyLRScheduler
from timm.utils import accuracy, distribute_bn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midas.config.settings import Transfer
from midas.files.writing import write_table
from midas.images.datasets import part_tested
from midas.images.folders import describe
from midas.images.seeds import seed_step
from midas.networks.counting import count
from midas.networks.operations import Noise
from midas.networks.skeletons import Skeleton, build, set_drop_path
from midas.plan.runs import TransferRun, identity_of
from midas.running.durable import Keeper
from midas.running.limits import leave_if_asked, sign_of_life
from midas.running.processes import Group, join
from midas.running.progress import Progress
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.genotype import Genotype
from midas.spaces.genotype import load as load_genotype
from midas.training.photos import PhotoLoader
from midas.training.trainer import Batches, History, Sums, Training, memory_format, resume, run_epochs, save_network

AGREE_EVERY = 20
"""Training steps between the questions of several processes to one another whether to save, for which they wait."""
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


def transfer(run: TransferRun, folder: Path) -> None:
    """Train the network of a genotype on large images and write the outputs.

    Raises:
        ValueError: an input can't be used, or the loss is no longer finite.
    """
    torch.set_num_threads(run.threads)
    group = join(run.device, run.transfer.gpus)
    try:
        _transfer(run, folder, group)
    except RuntimeError:
        if group.size > 1:  # another process may have left already, and with it the connection
            leave_if_asked("transfer")
        raise
    finally:
        if group.size > 1:
            dist.destroy_process_group()


def _transfer(run: TransferRun, folder: Path, group: Group) -> None:
    genotype = load_genotype(Path(run.genotype))
    train, test = (PhotoLoader(run.dataset, run.transfer, run.seed, group, training) for training in (True, False))
    network = _network(run, genotype, group.device)
    trainer = Trainer(network, run.transfer, run.seed, run.dataset.classes, len(train), group)
    # the cell itself: another search may have written the same path
    identity = identity_of("transfer", run, group.device, genotype=str(genotype), images=_contents(run))
    with Keeper(folder, identity, writes=group.rank == 0, elsewhere=run.go_on_elsewhere) as keeper:
        history = _resume(trainer, keeper, group)
        _epochs(trainer, train, test, keeper, history)
        if group.rank == 0:
            write_table(folder / "history.csv", history)
            save_network(trainer.evaluated, genotype, folder / "model.safetensors")
            numbers = _numbers(network, history, run.dataset.image, len(train.photos), len(test.photos))
            numbers |= part_tested(run.dataset)
            write_metrics(
                folder / "metrics.json", "transfer", run, numbers, keeper.seconds, group.device, keeper.attempts
            )
            keeper.done()


def _contents(run: TransferRun) -> str:
    """Digest of the images as the step data found it; without that step, of their names and sizes."""
    if run.described is None:
        return describe(run.dataset)["sha256"]
    try:
        found = json.loads(Path(run.described).read_text())
        return found.get("files_sha256", found["sha256"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{run.described}: not what the step data wrote: {error}") from error


def _network(run: TransferRun, genotype: Genotype, device: torch.device) -> Skeleton:
    settings, classes = run.transfer, run.dataset.classes
    seed_step(run.seed, "weights", 0, 0)
    auxiliary = settings.auxiliary > 0
    network = build(genotype, settings.channels, settings.cells, classes, auxiliary, imagenet=True)
    return network.to(device).to(memory_format=memory_format(settings))


def _resume(trainer: Trainer, keeper: Keeper, group: Group) -> History:
    """Go on from a checkpoint; the first process looks first, since it sets one of another run aside."""
    if group.rank > 0:
        dist.barrier()
    history = resume(trainer, keeper)
    if group.rank == 0 and group.size > 1:
        dist.barrier()
    return history


def _epochs(trainer: Trainer, train: PhotoLoader, test: PhotoLoader, keeper: Keeper, history: History) -> None:
    """Train the epochs that are left; a row of the history for each."""
    progress, group = Progress(trainer.settings.epochs, "transfer"), trainer.group

    def train_and_test(epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        first = trainer.sums.step
        batches = train.epoch(epoch, first)
        if group.rank == 0:
            batches = progress.steps(batches, len(train), epoch, first)
        return trainer.train(batches, epoch, after_step) | trainer.test(test.in_order())

    every = 1 if group.size == 1 else AGREE_EVERY
    run_epochs(trainer, keeper, history, train_and_test, len(train), every, group.agree)


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
    main(TransferRun, transfer, long=True)
