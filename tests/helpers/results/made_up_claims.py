"""Made-up results on which the paper's claims hold, or don't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from places import ROOT

from midas.config.keys import Config
from midas.plan.plan import Plan
from midas.spaces.benchmark import ACCURACIES
from midas.spaces.darts import OPERATIONS

GOOD: dict[str, Any] = {
    "cells": [9930] * 4,
    "accuracy": {"darts/cifar10": 97.45, "darts/cifar100": 83.4, "s1/cifar10": 97.6, "s2/cifar10": 97.0, "s3/cifar10": 97.6,
                 "s4/cifar10": 97.0},
    "spread": {"no_patch": 0.02, "ps4": 0.5, "midas": 0.4},
    "rejected": 0.2,
    "p_groups": 0.01,
    "p_class": [0.005] * 4,
    "top1": 75.0,
    "multiply_adds": 570e6,
    "spread_over_seeds": (-0.03, 0.01, 0.0, 0.02),
}  # fmt: skip


def make_config(name: str, root: Path, **changes: Any) -> Config:
    raw = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    table = {"nas_bench_201_table": "table.csv.gz"} if name != "config" else {}
    return Config.model_validate(
        {**raw, **table, "results_dir": str(root), "claims": str(ROOT / "config/claims.yaml"), **changes}
    )


def fabricate(config: Config, **changes: Any) -> Config:
    """Files as the steps leave them, of the first method alone; the numbers are `GOOD` but for `changes`."""
    numbers, plan = GOOD | changes, Plan(config)
    for cell in plan.cells(evaluated=True):
        if cell.method == "midas":
            write_cell(plan.cell_folder(cell), cell.experiment, config.seeds.index(cell.seed), numbers)
    for cell in plan.transfers():
        adds = numbers["multiply_adds"]
        top1 = numbers["top1"] + numbers["spread_over_seeds"][config.seeds.index(cell.seed)]
        content = {"test_top1": top1, "multiply_adds": adds, "mobile_setting": adds < 600e6}
        write(plan.cell_folder(cell) / "transfer/metrics.json", content)
    if config.analysis:
        write_analysis(plan, numbers)
    return config


def write_cell(folder: Path, experiment: Any, place: int, numbers: dict[str, Any]) -> None:
    accuracy = (
        numbers["accuracy"].get(f"{experiment.space}/{experiment.dataset}", 50.0) + numbers["spread_over_seeds"][place]
    )
    write(folder / "retrain/metrics.json", {"test_accuracy": accuracy})
    row = {"index": numbers["cells"][place]} | dict.fromkeys(ACCURACIES, 90.0 + place)
    write(folder / "lookup/metrics.json", {"cell": row})


def write_analysis(plan: Plan, numbers: dict[str, Any]) -> None:
    config, rows = plan.config, []
    for method in dict.fromkeys([config.analysis.method, *config.analysis.compare]):
        for place, seed in enumerate(config.seeds):
            spread = numbers["spread"].get(method, 0.3) * (1 + numbers["spread_over_seeds"][place])
            for cell in range(3):
                rows += [(method, seed, cell, *row) for row in shares(spread if cell < 2 else 3 * spread)]
    plan.root.joinpath("analysis").mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["method", "seed", "cell", "operation", "share", "uniform"])
    table.to_csv(plan.root / "analysis/weights.csv", index=False)
    write(plan.root / "analysis/metrics.json", statistics(config, numbers))


def shares(spread: float) -> list[tuple[str, float, float]]:
    """Shares of the operations of a cell whose convolutions are `spread` equal weights apart; poolings are far off."""
    even = 1 / len(OPERATIONS)
    offsets = dict(zip(OPERATIONS[3:], (0.0, -spread / 2, 0.0, spread / 2), strict=True))
    return [(name, even * (1 + offsets.get(name, 0.9)), even) for name in OPERATIONS]


def statistics(config: Config, numbers: dict[str, Any]) -> dict[str, Any]:
    dips, effects, groups = [], [], []
    for place, seed in enumerate(config.seeds):
        share = numbers["rejected"] + numbers["spread_over_seeds"][place]
        counts = {"tested": 800, "rejected": round(800 * share), "rejected_share": share}
        dips.append({"seed": seed, **counts, "rejected_benjamini_hochberg": 8})
        effects.append({"seed": seed, "eta_squared": 0.1, "p_value": numbers["p_class"][place]})
        groups.append({"seed": seed, "difference": 0.4 + numbers["spread_over_seeds"][place], "p_value": 0.04})
    group = {"p_value": numbers["p_groups"], "difference": 0.4, "seeds": groups} if config.analysis.groups else None
    return {"dip_level": 0.05, "dip": dips, "class_effect": effects, "groups": group}


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
