"""Does a deep supernet with attention train? ``python -m benchmarks.depth DATA`` (a folder with cifar-10-batches-py).

The network's weights get a gradient through the mixture, and through the attention, whose queries and keys are means of maps. How
large the two are at initialisation, by depth; and what is learned in the first steps of a search. Three seeds, real images.
Writes results/published/depth.json and, for people, depth.md; with ``--attention`` the same of ways to compute the attention,
attention_depth.json and attention_depth.md. Rows that the file holds already are kept: it goes on where it was stopped.
``--table`` writes the tables alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from midas.config.method import Method
from midas.config.settings import Search
from midas.files.writing import write_text
from midas.images.datasets import KNOWN
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.images.seeds import seed_step
from midas.methods.composition import compose
from midas.running.provenance import commit, digest_of_source, processor, versions
from midas.spaces import get_space
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.sums import SearchSums

FOLDER = Path(__file__).parent.parent / "results/published"
FORMER = {"normalise": "none", "weight_decay": 1e-3}
LENGTH = {"normalise": "length", "scale": 4.0, "weight_decay": 0.0}
RELU = {**LENGTH, "activation": "relu", "projected": "maps"}
METHODS = {
    "depth": {
        "static": Method(weights="static"),
        "midas": Method(**FORMER),
        "detached": Method(**FORMER, detach=True),
    },
    "attention_depth": {
        "static": Method(weights="static"),
        "scaled_decay": Method(**FORMER),
        "scaled_detached_decay": Method(**FORMER, detach=True),
        "scaled": Method(normalise="none", weight_decay=0.0),
        "layer_norm": Method(normalise="layer_norm", weight_decay=0.0),
        "length": Method(**LENGTH),
        "length_detached": Method(**LENGTH, detach=True),
        "relu_of_means": Method(**LENGTH, activation="relu"),
        "relu": Method(**RELU),
        "relu_detached": Method(**RELU, detach=True),
        "norm_relu": Method(**RELU | {"activation": "norm_relu"}),
    },
}
"""File -> methods that are measured side by side."""
DEPTHS = {"nas_bench_201": (1, 2, 3, 5), "darts": (3, 5, 8)}
"""Cells, as the configuration counts them; the last are the paper's."""
SEEDS = (0, 1, 2)
TRAINED = (
    (60, Search(channels=4, cells=5, epochs=8, precision="bfloat16", arch_lr=0.003, merge_edges=True)),
    (100, Search(channels=16, cells=5, epochs=100, precision="bfloat16")),
)
"""Number of first steps of searches of NAS-Bench-201: config/cifar10_deep_cpu.yaml, and config/paper.yaml in bfloat16."""
LAST = 20
"""Of these steps the last ones, whose mean loss is reported."""

Batches = list[Loader]


def prepared(space: str, method: Method, settings: Search, seed: int, batches: Batches) -> tuple[Bilevel, Any]:
    """A new search, and its steps' batches of the two halves."""
    device = torch.device("cpu")
    seed_step(seed, "initialise", 0, 0)
    search = Bilevel(
        make_supernet(compose(method, get_space(space), settings.epochs), settings, 10, device), settings, device
    )
    return search, zip(*(loader.epoch(0, 0) for loader in batches), strict=False)


def gradient_norm(space: str, method: Method, cells: int, seed: int, batches: Batches) -> float:
    """Norm of the gradient of all weights of the network, at the paper's width, for the first batch."""
    search, steps = prepared(space, method, Search(cells=cells, epochs=1), seed, batches)
    train, _ = next(steps)
    loss, _ = search.passes.loss(*train)
    return float(torch.nn.utils.get_total_norm(torch.autograd.grad(loss, search.weights)))


def first_losses(method: Method, settings: Search, count: int, seed: int, batches: Batches) -> float:
    """Mean training loss of the last of a search's first ``count`` steps."""
    search, steps = prepared("nas_bench_201", method, settings, seed, batches)
    for group in search.weight_optimizer.param_groups:
        group["lr"] = search.lr(0)
    sums = SearchSums()
    for step, (train, valid) in zip(range(count), steps, strict=False):
        sums = SearchSums() if step == count - LAST else sums
        search.step(train, valid, sums)
    return sums.train.number("train_loss")


def rows(methods: dict[str, Method]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is to be measured: parts of the result, one after the other: its list, and a row without its values."""
    for space, depths in DEPTHS.items():
        for cells in depths:
            for name in methods:
                yield "gradients", {"space": space, "cells": cells, "method": name}
    for count, settings in TRAINED:
        for name in methods:
            size = {"channels": settings.channels, "arch_lr": settings.arch_lr, "steps": count}
            yield "training", {**size, "method": name}


def measured(part: str, row: dict[str, Any], method: Method, batches: dict[int, Batches]) -> dict[str, Any]:
    """The row with its values, one for each seed."""
    if part == "gradients":
        space, cells = row["space"], row["cells"]
        return {**row, "norms": [gradient_norm(space, method, cells, seed, batches[seed]) for seed in SEEDS]}
    count, settings = next(t for t in TRAINED if t[1].channels == row["channels"])
    return {**row, "losses": [first_losses(method, settings, count, seed, batches[seed]) for seed in SEEDS]}


def batches_of(data: Path) -> dict[int, Batches]:
    """Loaders of both halves of CIFAR-10 for each seed."""
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(data), "download": False})
    images, _ = load(dataset, torch.device("cpu"))
    halves = [images.take(half) for half in search_halves(dataset, len(images))]
    known = Statistics.of(images)
    return {
        seed: [Loader(h, known, 64, seed, name, dataset) for h, name in zip(halves, ("train", "valid"), strict=True)]
        for seed in SEEDS
    }


def table(found: dict[str, Any]) -> str:
    """Both results as tables of markdown: medians and, in brackets, the least and the largest of the seeds."""

    def line(name: str, part: str, values: str, keys: list[str]) -> str:
        own = {tuple(r[key] for key in keys): r[values] for r in found[part] if r["method"] == name}
        return f"| {name} | " + " | ".join(map(_three, own.values())) + " |"

    names = list(dict.fromkeys(row["method"] for row in found["gradients"]))
    columns = [f"{space}, {cells}" for space, depths in DEPTHS.items() for cells in depths]
    first = ["| method | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    first += [line(name, "gradients", "norms", ["space", "cells"]) for name in names]
    columns = [
        f"{s.channels} channels, arch_lr {s.arch_lr}, steps {count - LAST + 1} to {count}" for count, s in TRAINED
    ]
    second = ["| method | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    second += [line(name, "training", "losses", ["channels", "steps"]) for name in names]
    return "\n".join([*first, "", *second]) + "\n"


def _three(values: list[float]) -> str:
    middle, least, largest = (
        f"{x:.2f}" if x < 10 else f"{x:,.0f}" for x in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} [{least}, {largest}]"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--attention", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    name = "attention_depth" if options.attention else "depth"
    path = FOLDER / f"{name}.json"
    if not options.table:
        torch.set_num_threads(options.threads)
        measure(path, METHODS[name], options.data, options.threads)
    (FOLDER / f"{name}.md").write_text(table(json.loads(path.read_text())))


def measure(path: Path, methods: dict[str, Method], data: Path, threads: int) -> None:
    """Measure what the file doesn't hold yet; one of another machine or other versions begins anew."""
    origin = {"processor": processor(), "versions": versions(), "threads": threads}
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if any(found.get(key) != value for key, value in origin.items()):
        found = {"channels": 16, "batch": 64, "seeds": SEEDS, **origin, "gradients": [], "training": []}
    batches = batches_of(data)
    for part, row in rows(methods):
        asked = {**row, "keys": methods[row["method"]].model_dump(mode="json")}
        if any(asked.items() <= other.items() for other in found[part]):
            continue
        found[part] = [other for other in found[part] if not row.items() <= other.items()]  # of other keys
        values = measured(part, asked, methods[row["method"]], batches)
        found[part].append({**values, "commit": commit(), "source": digest_of_source("search")})
        print(json.dumps(found[part][-1]), flush=True)
        write_text(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
