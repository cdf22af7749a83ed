"""First-order bilevel search: ``python -m midas.search RUN FOLDER``.

Batch by batch, as in DARTS: one step of the architecture on the validation half, one of the weights on the training half.
Writes arch.npz (the dump P and pi over the validation half), example.npz (one image's maps, for figure 1), history.csv
(a row an epoch) and, last, metrics.json. Killed at any moment it goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midas.files.writing import write_table
from midas.images.datasets import class_names
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import Images, digest_of, load
from midas.images.seeds import seed_step
from midas.methods.decoding import decode_weights
from midas.plan.runs import SearchRun, identity_of
from midas.running.devices import pick_device
from midas.running.durable import Keeper
from midas.running.limits import leave_if_asked
from midas.running.progress import Progress
from midas.running.provenance import digest, write_metrics
from midas.running.step import main
from midas.supernet import Supernet
from midas.supernet.cpu import kernels
from midas.training.bilevel import FirstOrder, RecordedSteps, Sums, make_supernet
from midas.training.dump import write_dump, write_example


def search(run: SearchRun, folder: Path) -> None:
    """Search, or continue a search, and write its outputs."""
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    for _ in searching(run, folder, device, load(run.dataset, device)[0]):
        pass


def searching(
    run: SearchRun, folder: Path, device: torch.device, images: Images, identity: dict[str, Any] | None = None
) -> Iterator[tuple[int, int]]:
    """The same step by step: stops after each, so that several searches can take turns on one device, and says where it is.

    Args:
        run: what is searched.
        folder: of the outputs.
        device: that it is searched on.
        images: all training images, on that device.
        identity: of the checkpoint, if not that of the run and this source.

    Yields:
        Epochs that are done, and steps of the next.
    """
    statistics = Statistics.of(images)
    halves = search_halves(run.dataset, len(images))
    train, valid = (images.take(half) for half in halves)
    seed_step(run.seed, "initialise", 0, 0)
    settings = run.search
    supernet = make_supernet(run.space, run.method, settings, run.dataset.classes, device)
    method = FirstOrder(supernet, settings, device)
    loaders = [
        Loader(half, statistics, settings.batch_size, run.seed, name, run.dataset)
        for half, name in ((train, "train"), (valid, "valid"))
    ]
    identity = identity or identity_of("search", run, device, **digests(images, halves))
    with Keeper(folder, identity, elsewhere=run.go_on_elsewhere) as keeper:
        history: list[dict[str, Any]] = []
        yield from _epochs(run, method, loaders, keeper, history)
        _write(run, folder, supernet, history, valid, statistics, device, keeper, identity["source_digest"])
        keeper.done()


def digests(images: Images, halves: tuple[Tensor, Tensor]) -> dict[str, str]:
    """Of the images that a search sees, and of its halves of them."""
    return {"images": digest_of(images), "halves": hashlib.sha256(torch.cat(halves).numpy().tobytes()).hexdigest()}


def _epochs(
    run: SearchRun, method: FirstOrder, loaders: list[Loader], keeper: Keeper, history: list[dict[str, Any]]
) -> Iterator[tuple[int, int]]:
    """Run the epochs that are left; adds a row for each epoch to `history`."""
    sums = Sums()
    state = keeper.load()
    if state is not None:
        method.restore(state)
        history += state["history"]
        if within := state.get("within"):
            sums.restore(within, method.device)
    recorded = RecordedSteps(method, loaders, sums) if run.search.cuda_graph and method.device.type == "cuda" else None
    progress = Progress(run.search.epochs, "search")
    for epoch in range(len(history), run.search.epochs):
        for _ in _steps(run, method, loaders, epoch, sums, progress, recorded):
            if keeper.due():
                sums.check(epoch)
                keeper.save({**method.state(), "history": history, "within": sums.state()})
                leave_if_asked("search")
            yield epoch, sums.step
        sums.check(epoch)
        history.append(_row(run, method, epoch, sums))
        keeper.save({**method.state(), "history": history})
        progress.epoch(
            epoch, **{name: history[-1][name] for name in ("train_loss", "train_accuracy", "valid_accuracy", "entropy")}
        )
        leave_if_asked("search")
        sums.clear()


def _steps(
    run: SearchRun,
    method: FirstOrder,
    loaders: list[Loader],
    epoch: int,
    sums: Sums,
    progress: Progress,
    recorded: RecordedSteps | None,
) -> Iterator[None]:
    """The steps of an epoch that are left; stops after each."""
    method.begin(epoch)
    learns, first = epoch >= run.method.warmup_epochs, sums.step
    steps = min(map(len, loaders))  # the halves may differ by one image
    if recorded is None:
        batches = zip(*(loader.epoch(epoch, first) for loader in loaders), strict=False)
    else:
        recorded.begin(epoch, first)
    for step in progress.steps(range(first, steps), steps, epoch, first):
        seed_step(run.seed, "noise", epoch, step)  # of the operation "noise" (S4)
        if recorded is None:
            on_train, on_valid = next(batches)
            method.step(on_train, on_valid, sums, learns)
        else:
            recorded(learns)
        sums.step = step + 1
        yield


def _row(run: SearchRun, method: FirstOrder, epoch: int, sums: Sums) -> dict[str, Any]:
    """The epoch's row of the history."""
    on_train, on_valid = sums.train, sums.valid
    space, p = method.supernet.space, on_valid.mean("p")
    assert p is not None
    genotype = decode_weights(p, on_valid.mean("pi"), method.supernet.kinds, space, run.method.decode_none)
    return {
        "epoch": epoch + 1,
        "lr": method.lr(epoch),
        "train_loss": on_train.number("train_loss"),
        "train_accuracy": on_train.number("train_accuracy"),
        "valid_loss": on_valid.number("valid_loss"),
        "valid_accuracy": on_valid.number("valid_accuracy"),
        "entropy": on_valid.number("entropy"),
        **{f"p_{name}": float(p[:, :, o].mean()) for o, name in enumerate(space.operations)},
        "genotype": str(genotype),
    }


def _write(
    run: SearchRun,
    folder: Path,
    supernet: Supernet,
    history: list[dict[str, Any]],
    valid: Images,
    statistics: Statistics,
    device: torch.device,
    keeper: Keeper,
    begun_by: str,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    supernet.triton = False  # its kernels are compiled for the size of a batch, and the dump's batches have other sizes
    names = class_names(run.dataset)
    seed_step(run.seed, "noise", run.search.epochs, 0)
    batch = run.method.decode_batch or run.search.batch_size
    accuracy = write_dump(folder / "arch.npz", supernet, valid, statistics, batch, names)
    write_example(folder / "example.npz", supernet, valid, statistics, run.search.batch_size)
    write_table(folder / "history.csv", history)
    numbers = {
        "valid_accuracy": accuracy,
        "train_accuracy": history[-1]["train_accuracy"],
        "weights_params": sum(p.numel() for p in supernet.weight_parameters()),
        "architecture_params": sum(p.numel() for p in supernet.architecture_parameters()),
        "epochs": len(history),
        "images": len(valid),
    }
    compiled = run.search.fast and device.type == "cpu" and kernels.compiled() is not None
    means = {"compiled_kernels": compiled, **keeper.attempts}  # without kernels sums are torch's, with another rounding
    if begun_by != digest("search"):
        means["begun_by_source"] = begun_by
    write_metrics(folder / "metrics.json", "search", run, numbers, keeper.seconds, device, means)


if __name__ == "__main__":
    main(SearchRun, search, long=True)
