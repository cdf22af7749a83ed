"""Train a found cell from scratch on all training images and test it after every epoch.

``python -m midas.retrain RUN FOLDER`` writes `history.csv`, `model.safetensors` and, last, `metrics.json`. It can be
killed at any moment: started again, it goes on from its checkpoint and ends with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter
from torch import Tensor

from midas.config.settings import Retrain
from midas.files.writing import write_table
from midas.images.datasets import part_tested
from midas.images.loader import Loader, Statistics, in_order
from midas.images.reading import Images, digest_of, load
from midas.images.seeds import seed_step
from midas.networks.counting import count
from midas.networks.skeletons import Skeleton, build, set_drop_path
from midas.plan.runs import RetrainRun, identity_of
from midas.running.devices import pick_device
from midas.running.durable import Keeper
from midas.running.limits import leave_if_asked
from midas.running.progress import Progress
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.genotype import Genotype
from midas.spaces.genotype import load as load_genotype
from midas.training.trainer import Batches, History, Sums, Training, memory_format, resume, run_epochs, save_network


class Trainer(Training[Retrain]):
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


def retrain(run: RetrainRun, folder: Path) -> None:
    """Train the network of a genotype and write the outputs.

    Raises:
        ValueError: an input can't be used, or the loss is no longer finite.
    """
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    genotype = load_genotype(Path(run.genotype))
    parts = load(run.dataset, device)
    trainer = Trainer(_network(run, genotype, device), run.retrain, run.seed)
    # the cell itself: another search may have written the same path
    identity = identity_of("retrain", run, device, genotype=str(genotype), images=digest_of(*parts))
    with Keeper(folder, identity, elsewhere=run.go_on_elsewhere) as keeper:
        history = resume(trainer, keeper)
        _epochs(trainer, run, parts, keeper, history)
        write_table(folder / "history.csv", history)
        save_network(trainer.evaluated, genotype, folder / "model.safetensors")
        numbers = {**_numbers(trainer.network, history, run.dataset.image), **part_tested(run.dataset)}
        write_metrics(folder / "metrics.json", "retrain", run, numbers, keeper.seconds, device, keeper.attempts)
        keeper.done()


def _numbers(network: Skeleton, history: History, image: tuple[int, int]) -> dict[str, float]:
    params, multiply_adds = count(network, image)
    last = {name: history[-1][name] for name in ("test_accuracy", "test_loss", "train_accuracy")}
    return last | {"params": params, "multiply_adds": multiply_adds, "epochs": len(history)}


def _network(run: RetrainRun, genotype: Genotype, device: torch.device) -> Skeleton:
    settings = run.retrain
    seed_step(run.seed, "weights", 0, 0)
    network = build(genotype, settings.channels, settings.cells, run.dataset.classes, auxiliary=settings.auxiliary > 0)
    return network.to(device).to(memory_format=memory_format(settings))


def _epochs(trainer: Trainer, run: RetrainRun, parts: tuple[Images, Images], keeper: Keeper, history: History) -> None:
    """Train the epochs that are left; a row of the history for each."""
    settings = run.retrain
    train, test = parts
    statistics = Statistics.of(train)
    loader = Loader(train, statistics, settings.batch_size, run.seed, "retrain", run.dataset, settings.cutout)
    progress = Progress(settings.epochs, "retrain")

    def train_and_test(epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        first = trainer.sums.step
        row = trainer.train(progress.steps(loader.epoch(epoch, first), len(loader), epoch, first), epoch, after_step)
        return row | trainer.test(in_order(test, statistics, settings.batch_size))

    run_epochs(trainer, keeper, history, train_and_test, len(loader))


if __name__ == "__main__":
    main(RetrainRun, retrain, long=True)
