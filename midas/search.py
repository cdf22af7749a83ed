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
from midas.images.loader import in_order
from midas.images.reading import Images, digest_of, load
from midas.images.seeds import seed_step
from midas.plan.runs import SearchRun, identity_of
from midas.running.devices import pick_device
from midas.running.durable import Keeper
from midas.running.progress import announce
from midas.running.provenance import digest, write_metrics
from midas.running.step import main
from midas.supernet.cpu import kernels
from midas.training.dump import write_dump, write_example
from midas.training.searching import Searching


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
    found = Searching(run, images, device)
    identity = identity or identity_of("search", run, device, **digests(images, found.halves))
    with Keeper(folder, identity, elsewhere=run.go_on_elsewhere) as keeper:
        announce("search", f"{run.space} on {run.dataset.name}, seed {run.seed}", found.bilevel.supernet, device)
        yield from found.epochs(keeper)
        _write(folder, found, keeper)
        keeper.done()


def digests(images: Images, halves: tuple[Tensor, Tensor]) -> dict[str, str]:
    """Of the images that a search sees, and of its halves of them."""
    return {"images": digest_of(images), "halves": hashlib.sha256(torch.cat(halves).numpy().tobytes()).hexdigest()}


def _write(folder: Path, found: Searching, keeper: Keeper) -> None:
    """What a finished search leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    run, bilevel, history = found.run, found.bilevel, found.history
    bilevel.supernet.triton = False  # its kernels are compiled for the size of a batch, and the dump's batches differ
    seed_step(run.seed, "noise", run.search.epochs, 0)
    batches = in_order(found.valid, found.statistics, found.composition.decode_batch or run.search.batch_size)
    names = class_names(run.dataset)
    with bilevel.supernet.evaluated():
        accuracy = write_dump(folder / "arch.npz", bilevel.supernet, batches, found.valid.labels, names)
        write_example(folder / "example.npz", found)
    write_table(folder / "history.csv", history)
    numbers = {
        "valid_accuracy": accuracy,
        "train_accuracy": history[found.composition.choice.best(history)]["train_accuracy"],
        "weights_params": sum(p.numel() for p in bilevel.weights),
        "architecture_params": sum(p.numel() for p in bilevel.architecture),
        "architecture_norms": found.norms,
        "epochs": len(history),
        "decoded_epoch": found.composition.choice.best(history) + 1,
        "images": len(found.valid),
    }
    compiled = run.search.fast and found.device.type == "cpu" and kernels.there()
    means = {"compiled_kernels": compiled, **keeper.attempts}  # without kernels sums are torch's, with another rounding
    if (begun_by := keeper.checkpoint.identity["source_digest"]) != digest("search"):
        means["begun_by_source"] = begun_by
    write_metrics(folder / "metrics.json", "search", run, numbers, keeper.seconds, found.device, means)


if __name__ == "__main__":
    main(SearchRun, search, long=True)
