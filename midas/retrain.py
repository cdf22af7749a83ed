"""Train a found cell from scratch on all training images, or all but the first, and test it after every epoch.

``python -m midas.retrain RUN FOLDER`` writes `history.csv`, `model.safetensors` and, last, `metrics.json`. It can be
killed at any moment: started again, it goes on from its checkpoint and ends with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from midas.files.writing import write_table
from midas.images.datasets import part_tested
from midas.images.loader import Loader, Statistics, in_order
from midas.images.reading import Images, digest_of, load
from midas.images.seeds import seed_step
from midas.networks.counting import count
from midas.networks.saved import Description, save_network
from midas.networks.skeletons import Skeleton
from midas.plan.runs import RetrainRun, identity_of
from midas.running.devices import pick_device
from midas.running.durable import Keeper
from midas.running.progress import Progress, announce
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.genotype import load as load_genotype
from midas.training.epochs import History, resume, run_epochs
from midas.training.found_network import make_network
from midas.training.retraining import Retraining


def retrain(run: RetrainRun, folder: Path) -> None:
    """Train the network of a genotype and write the outputs.

    Raises:
        ValueError: an input can't be used, or the loss is no longer finite.
    """
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    genotype = load_genotype(Path(run.genotype))
    whole, test = load(run.dataset, device)
    parts = whole.take(torch.arange(run.retrain.leave_out, len(whole))) if run.retrain.leave_out else whole, test
    statistics = Statistics.of(parts[0])
    seed_step(run.seed, "weights", 0, 0)
    network = make_network(genotype, run.retrain, run.dataset.classes, device)
    trainer = Retraining(network, run.retrain, run.seed)
    # the cell itself: another search may have written the same path
    identity = identity_of("retrain", run, device, genotype=str(genotype), images=digest_of(*parts))
    with Keeper(folder, identity, elsewhere=run.go_on_elsewhere) as keeper:
        announce("retrain", f"a cell of {genotype.space} on {run.dataset.name}, seed {run.seed}", network, device)
        history = resume(trainer, keeper)
        _epochs(trainer, run, parts, statistics, keeper, history)
        write_table(folder / "history.csv", history)
        description = Description.of(genotype, run.retrain, run.dataset.image, run.dataset.classes, *statistics)
        save_network(trainer.evaluated, description, folder / "model.safetensors")
        numbers = {**_numbers(network, history, run.dataset.image), **part_tested(run.dataset)}
        write_metrics(folder / "metrics.json", "retrain", run, numbers, keeper.seconds, device, keeper.attempts)
        keeper.done()


def _epochs(
    trainer: Retraining,
    run: RetrainRun,
    parts: tuple[Images, Images],
    statistics: Statistics,
    keeper: Keeper,
    history: History,
) -> None:
    """Train the epochs that are left; a row of the history for each."""
    settings = run.retrain
    train, test = parts
    loader = Loader(train, statistics, settings.batch_size, run.seed, "retrain", run.dataset, settings.cutout)
    progress = Progress(settings.epochs, "retrain")

    def train_and_test(epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        first = trainer.sums.step
        row = trainer.train(progress.steps(loader.epoch(epoch, first), len(loader), epoch, first), epoch, after_step)
        return row | trainer.test(in_order(test, statistics, settings.batch_size))

    run_epochs(trainer, keeper, history, train_and_test, len(loader))


def _numbers(network: Skeleton, history: History, image: tuple[int, int]) -> dict[str, float]:
    params, multiply_adds = count(network, image)
    last = {name: history[-1][name] for name in ("test_accuracy", "test_loss", "train_accuracy")}
    return last | {"params": params, "multiply_adds": multiply_adds, "epochs": len(history)}


if __name__ == "__main__":
    main(RetrainRun, retrain, long=True)
