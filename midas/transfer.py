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

import torch
import torch.distributed as dist
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from midas.files.writing import write_table
from midas.images.datasets import part_tested
from midas.images.folders import describe
from midas.images.seeds import seed_step
from midas.networks.counting import count
from midas.networks.saved import Description, save_network
from midas.networks.skeletons import Skeleton
from midas.plan.runs import TransferRun, identity_of
from midas.running.durable import Keeper
from midas.running.limits import leave_if_asked
from midas.running.processes import Group, join
from midas.running.progress import Progress, announce
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.genotype import load as load_genotype
from midas.training.epochs import History, resume, run_epochs
from midas.training.found_network import make_network
from midas.training.photos import PhotoLoader
from midas.training.transferring import Transferring

AGREE_EVERY = 20
"""Training steps between the questions of several processes to one another whether to save, for which they wait."""
MOBILE_LIMIT = 600_000_000
"""The mobile setting: networks of fewer multiply-adds for one image."""
IMAGENET = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
"""Mean and standard deviation that timm normalises by, of pixels of 0..1."""


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
    seed_step(run.seed, "weights", 0, 0)
    network = make_network(genotype, run.transfer, run.dataset.classes, group.device)
    trainer = Transferring(network, run.transfer, run.seed, run.dataset.classes, len(train), group)
    # the cell itself: another search may have written the same path
    identity = identity_of("transfer", run, group.device, genotype=str(genotype), images=_contents(run))
    with Keeper(folder, identity, writes=group.rank == 0, elsewhere=run.go_on_elsewhere) as keeper:
        if group.rank == 0:
            what = f"a cell of {genotype.space} on {run.dataset.name}, seed {run.seed}, {group.size} process(es)"
            announce("transfer", what, network, group.device)
        history = _resume(trainer, keeper, group)
        _epochs(trainer, train, test, keeper, history)
        if group.rank == 0:
            write_table(folder / "history.csv", history)
            side, pixels = run.transfer.image_size, [[255 * v for v in values] for values in IMAGENET]
            description = Description.of(genotype, run.transfer, (side, side), run.dataset.classes, *pixels)
            save_network(trainer.evaluated, description, folder / "model.safetensors")
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


def _resume(trainer: Transferring, keeper: Keeper, group: Group) -> History:
    """Go on from a checkpoint; the first process looks first, since it sets one of another run aside."""
    if group.rank > 0:
        dist.barrier()
    history = resume(trainer, keeper)
    if group.rank == 0 and group.size > 1:
        dist.barrier()
    return history


def _epochs(trainer: Transferring, train: PhotoLoader, test: PhotoLoader, keeper: Keeper, history: History) -> None:
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
