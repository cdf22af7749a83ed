"""Made-up results, as the steps leave them, for tests of statistics, figures, tables and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from midas.config.keys import Config, Experiment
from midas.plan.plan import Plan
from midas.spaces import get_space
from midas.spaces.benchmark import ACCURACIES
from midas.spaces.genotype import parse

NB201_CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"


_NODES = (
    "[('sep_conv_3x3', 0), ('dil_conv_5x5', 1), ('skip_connect', 0), ('max_pool_3x3', 2), "
    "('sep_conv_5x5', 1), ('avg_pool_3x3', 2), ('dil_conv_3x3', 3), ('sep_conv_3x3', 4)]"
)
DARTS_CELL = f"Genotype(normal={_NODES}, normal_concat=[2, 3, 4, 5], reduce={_NODES}, reduce_concat=[2, 3, 4, 5])"


NOTE = r"5$ of $x_{, \frac $, *a*, `b`, _c_, |d|, <e> & f_, 50 % #1 ~g~ [h](i) ^j^ \ {k} &lt; `l`_ :m:`n` $^"
"""A note with what matplotlib, markdown, LaTeX, HTML and reStructuredText each take for more than text."""


def make_config(root: Path, **changes: Any) -> Config:
    """A configuration of tables 1 and 2 and figures 1 to 7 and 12, unless it is changed."""
    protocol = {
        "search": {"cells": 3, "epochs": 6},
        "retrain": {"channels": 8, "cells": 3, "epochs": 2, "auxiliary": 0},
    }
    both = ["midas", "darts"]
    raw: dict[str, Any] = {
        "size": "demo",
        "note": "made-up numbers, for tests only: embedded digits instead of CIFAR, small networks, few epochs",
        "seeds": [0, 1],
        "results_dir": str(root / "results"),
        "figures_dir": str(root / "figures"),
        "methods": {"midas": {}, "no_patch": {"patch_size": None}, "darts": {"weights": "static"}},
        "experiments": [
            {"space": "nas_bench_201", "dataset": "digits", "methods": both, **protocol},
            {"space": "darts", "dataset": "digits", "methods": both, "ablation": ["no_patch"], **protocol},
            {"space": "darts", "dataset": "digit_pairs", "methods": ["midas"], **protocol},
        ],
        "analysis": {"space": "darts", "dataset": "digits", "method": "midas", "compare": ["no_patch", "midas"]},
    }
    return Config.model_validate({**raw, **changes})


def write_results(plan: Plan, images: int = 400) -> None:
    """Files as the other steps leave them, filled with random numbers."""
    for cell in plan.cells():
        folder = plan.cell_folder(cell)
        rng = np.random.default_rng([cell.seed, *map(ord, str(folder.relative_to(plan.root)))])
        space = cell.experiment.space
        text = NB201_CELL if space == "nas_bench_201" else DARTS_CELL
        if not plan.is_unsearched(cell.method):
            classes = 10 if cell.experiment.dataset == "digits" else 100
            static = plan.config.methods[cell.method].weights == "static"
            _write_dump(folder / "search", space, images, 1 if static else classes, rng)
            _write_history(folder / "search/history.csv", text, rng)
            write_metrics(folder / "search/metrics.json", {"valid_accuracy": 80.0 + cell.seed}, 40.0 + cell.seed)
        (folder / "decode").mkdir(parents=True)
        parse(text).save(folder / "decode/genotype.json")
        numbers = {"test_accuracy": 90 + 5 * rng.random(), "params": 100_000 + cell.seed}
        write_metrics(folder / "retrain/metrics.json", numbers, 10.0)
        _write_lookup(folder / "lookup", rng)
    for cell in plan.transfers():
        rng = np.random.default_rng(cell.seed)
        numbers = {"test_top1": 70 + 5 * rng.random(), "test_top5": 90 + 5 * rng.random(), "params": 4_700_000}
        counts = {"multiply_adds": 590e6 + 20e6 * cell.seed, "mobile_setting": cell.seed == 0}
        write_metrics(plan.cell_folder(cell) / "transfer/metrics.json", {**numbers, **counts}, 7200.0)
    for experiment in plan.costs():
        write_cost(plan.root / experiment.space / experiment.dataset / "cost/metrics.json", experiment)


def write_cost(path: Path, experiment: Experiment) -> None:
    """The measurement of a search's cost: the baseline takes 0.5 s a step, any other method 0.75 s."""
    settings = experiment.cost
    assert settings is not None
    sides, sizes = settings.resolutions, settings.patch_sizes
    parts = [("methods", method, 16, None) for method in (settings.baseline, *settings.methods)]
    parts += [("resolution", m, side, None) for side in sides for m in (settings.baseline, settings.methods[0])]
    parts += [("patch_size", settings.methods[0], 16, size) for size in sizes]
    rows = []
    for part, method, side, size in parts:
        factor = 1.0 if method == settings.baseline else 1.5
        row: dict[str, Any] = {"part": part, "method": method, "image_height": side, "image_width": side}
        row |= {
            "patch_size": size,
            "weights_params": 1_234_567,
            "architecture_params": 196,
            "multiply_adds": 12_345_678,
            "passes": 2,
            "forward_passes": 0,
        }
        row |= {"step_seconds": 0.5 * factor, "step_seconds_low": 0.4 * factor, "step_seconds_high": 0.6 * factor}
        row |= {"ratio": factor, "ratio_low": factor - 0.25, "ratio_high": factor + 0.25, "epoch_seconds": 50 * factor}
        row |= {"peak_memory_bytes": 250_000_000, "memory_ratio": None if factor == 1 else 1.25}
        rows.append(row)
    few = dict.fromkeys(("ratio_low", "ratio_high"))
    rows = [row | (few if settings.repeats < 6 else {}) for row in rows]
    numbers = {
        "convention": "counted by a test.",
        "baseline": settings.baseline,
        "repeats": settings.repeats,
        "steps": settings.steps,
        "rows": rows,
    }
    write_metrics(path, {**numbers, "steps_per_epoch": 100}, 60.0)


def _write_dump(folder: Path, space_name: str, images: int, classes: int, rng: np.random.Generator) -> None:
    """A dump with as many images; with one class that of a static method, which has one row for all images."""
    space = get_space(space_name)
    kinds = [layer.kind for layer in space.skeleton(4) if layer.kind in space.cells]
    specs = [space.cells[kind] for kind in kinds]
    offered = np.array([[[o in ops for o in space.operations] for ops in spec.candidates] for spec in specs])
    images = 1 if classes == 1 else images
    labels = np.arange(images) % classes if classes > 1 else np.array([-1])
    logits = 0.4 * rng.normal(size=offered.shape) + 0.05 * rng.normal(size=(classes, *offered.shape))[labels]
    p = np.exp(logits + 0.1 * rng.normal(size=(images, *offered.shape))) * offered
    p = (p / p.sum(-1, keepdims=True)).astype(np.float32)
    folder.mkdir(parents=True)
    np.savez(
        folder / "arch.npz", p=p, labels=labels, kinds=np.array(kinds), operations=np.array(space.operations),
        edges=np.array(specs[0].edges), offered=offered, classes=np.array([str(k) for k in range(classes)]),
    )  # fmt: skip
    last = specs[0].nodes[-1]
    _write_example(folder / "example.npz", space.operations, range(last), last, rng)


def _write_example(path: Path, names: tuple[str, ...], sources: range, node: int, rng: np.random.Generator) -> None:
    count = len(names) * len(sources)
    image = (255 * np.outer(np.hanning(16), np.hanning(16))).astype(np.uint8)
    maps = rng.normal(size=(count, 16, 16)).cumsum(1).astype(np.float32) * 0.2
    patch_p = rng.dirichlet(np.ones(count), size=(2, 2)).astype(np.float32)
    p = patch_p.mean((0, 1))
    np.savez(
        path, image=np.stack([image] * 3), label=3, cell=0, node=node, operations=np.array(names * len(sources)),
        sources=np.repeat(sources, len(names)), maps=maps, grid=np.array([2, 2]), patch_p=patch_p, p=p,
        output=np.tensordot(p, maps, 1),
    )  # fmt: skip


def _write_history(path: Path, text: str, rng: np.random.Generator) -> None:
    epochs = np.arange(1, 31)
    accuracy = 95 - 80 * np.exp(-epochs / 6) + rng.normal(size=len(epochs))
    texts = [text if epoch > 9 else f"earlier {epoch // 4}" for epoch in epochs]
    columns = {"epoch": epochs, "valid_accuracy": accuracy, "entropy": 2 - epochs / 100, "genotype": texts}
    pd.DataFrame(columns).to_csv(path, index=False)


def write_metrics(path: Path, numbers: dict[str, Any], seconds: float) -> None:
    """A `metrics.json` of a run that took so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**numbers, "cost": {"wall_seconds": seconds, "device": "a test's processor"}}))


def _write_lookup(folder: Path, rng: np.random.Generator) -> None:
    cell = {"index": 1462, **{name: float(90 + rng.normal()) for name in ACCURACIES}}
    benchmark = {name: {"best": 94.0, "mean": 80.0, "std": 9.0} for name in ACCURACIES}
    write_metrics(folder / "metrics.json", {"cell": cell, "benchmark": benchmark, "benchmark_cells": 15625}, 1.0)
    column = np.minimum(94, 70 + np.repeat(rng.normal(size=6), 5).cumsum() * 2 + np.arange(30))
    history = {"epoch": np.arange(1, 31), "arch": NB201_CELL, **dict.fromkeys(ACCURACIES, column)}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)


def with_config(plan: Plan, **changes: Any) -> Plan:
    """The plan of the same results under a configuration with some keys changed."""
    return Plan(plan.config.model_copy(update=changes))
