"""Does a deep supernet with attention train? ``python -m benchmarks.depth DATA`` (a folder with cifar-10-batches-py).

The network's weights get a gradient through the mixture, and through the attention, whose queries and keys are means of maps. How
large the two are at initialisation, by depth; and what is learned in the first steps of a search. Three seeds, real images.
Writes results/published/depth.json and, for people, depth.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from midas.config.settings import Method, Search
from midas.images.datasets import KNOWN
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.images.seeds import seed_step
from midas.methods.composition import compose
from midas.running.provenance import commit, processor, versions
from midas.spaces import get_space
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.sums import SearchSums

FOLDER = Path(__file__).parent.parent / "results/published"
METHODS = {"static": Method(weights="static"), "midas": Method(), "detached": Method(detach=True)}
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
    search = Bilevel(make_supernet(compose(method, get_space(space)), settings, 10, device), settings, device)
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


def measured(data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parts of the result, one after the other: its list, and a row."""
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(data), "download": False})
    images, _ = load(dataset, torch.device("cpu"))
    halves = [images.take(half) for half in search_halves(dataset, len(images))]
    known = Statistics.of(images)
    batches = {
        seed: [Loader(h, known, 64, seed, name, dataset) for h, name in zip(halves, ("train", "valid"), strict=True)]
        for seed in SEEDS
    }
    for space, depths in DEPTHS.items():
        for cells in depths:
            for name, method in METHODS.items():
                norms = [gradient_norm(space, method, cells, seed, batches[seed]) for seed in SEEDS]
                yield "gradients", {"space": space, "cells": cells, "method": name, "norms": norms}
    for count, settings in TRAINED:
        for name, method in METHODS.items():
            losses = [first_losses(method, settings, count, seed, batches[seed]) for seed in SEEDS]
            size = {"channels": settings.channels, "arch_lr": settings.arch_lr, "steps": count}
            yield "training", {**size, "method": name, "losses": losses}


def table(found: dict[str, Any]) -> str:
    """Both results as tables of markdown: medians and, in brackets, the least and the largest of the seeds."""

    def cell(values: list[float]) -> str:
        middle, least, largest = (
            f"{x:.2f}" if x < 10 else f"{x:,.0f}" for x in (statistics.median(values), min(values), max(values))
        )
        return f"{middle} [{least}, {largest}]"

    lines = ["| space | cells | " + " | ".join(METHODS) + " |", "|---|---:|" + "---|" * len(METHODS)]
    for space, depths in DEPTHS.items():
        for cells in depths:
            norms = {r["method"]: r["norms"] for r in found["gradients"] if (r["space"], r["cells"]) == (space, cells)}
            lines.append(f"| {space} | {cells} | " + " | ".join(cell(norms[name]) for name in METHODS) + " |")
    lines += [
        "",
        "| channels | arch_lr | loss of steps | " + " | ".join(METHODS) + " |",
        "|---:|---|---|" + "---|" * len(METHODS),
    ]
    for count, settings in TRAINED:
        size = (settings.channels, settings.arch_lr, count)
        rows = [r for r in found["training"] if (r["channels"], r["arch_lr"], r["steps"]) == size]
        losses = {r["method"]: r["losses"] for r in rows}
        named = f"{settings.channels} | {settings.arch_lr} | {count - LAST + 1} to {count}"
        lines.append(f"| {named} | " + " | ".join(cell(losses[name]) for name in METHODS) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    origin = {"commit": commit(), "processor": processor(), "versions": versions(), "threads": options.threads}
    found: dict[str, Any] = {"channels": 16, "batch": 64, "seeds": SEEDS, **origin, "gradients": [], "training": []}
    for part, row in measured(options.data):
        print(json.dumps(row), flush=True)
        found[part].append(row)
    (FOLDER / "depth.json").write_text(json.dumps(found, indent=1) + "\n")
    (FOLDER / "depth.md").write_text(table(found))


if __name__ == "__main__":
    main()
