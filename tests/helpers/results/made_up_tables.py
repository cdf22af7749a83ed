"""Tables of made-up results, and their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from made_up_results import (
    NOTE,
    make_config,
)

from midas.analysis.tables import making as tables
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

NUMBERS = [1, 2, 3, 4, 5, 6]
METHODS = {
    "midas": {},
    "darts": {"weights": "static"},
    "random": {"weights": "random"},
    "no_patch": {"patch_size": None},
    "frozen": {"projections": "frozen", "patch_size": 4, "scale": 2.0},
    "per_op_keys": {"keys": "per_operation", "mixing": "patch", "distribution": "node"},
}


def full_config(root: Path) -> Plan:
    """Every table, with every kind of method."""
    small = {"channels": 8, "cells": 3, "epochs": 2, "auxiliary": 0}
    protocol: dict[str, Any] = {"search": {"cells": 3, "epochs": 6}, "retrain": small}
    evaluated = ["midas", "darts", "random"]
    common = {"dataset": "digits", "methods": evaluated, **protocol}
    transfer = {"dataset": "digit_photos", "methods": ["midas", "darts"], "epochs": 3, "warmup_epochs": 1}
    cost = {"baseline": "darts", "methods": ["midas", "no_patch"], "resolutions": [16, 32], "patch_sizes": [2, 4]}
    experiments = [
        {"space": "nas_bench_201", **common, "ablation": ["midas", "no_patch"]},
        {"space": "darts", **common, "ablation": [*METHODS], "transfer": transfer, "cost": cost},
        {"space": "darts", **common, "dataset": "digit_pairs"},
        {"space": "s1", **common},
        {"space": "s2", **common},
        {"space": "s3", **common, "retrain": {**small, "channels": 4}},
        {"space": "s4", **common, "methods": ["darts"]},
    ]
    return Plan(make_config(root, methods=METHODS, experiments=experiments))


VARIANTS: dict[str, dict[str, Any]] = {
    "several seeds": {},
    "one seed": {"seeds": [1]},
    "looked up": {"nas_bench_201_table": "benchmark.csv"},
    "paper": {"paper_protocol": True},
    "signs": {"note": NOTE},
}
Rendered = tuple[pd.DataFrame, str, str]


def make_table(plan: Plan, number: int, folder: Path) -> Rendered:
    """The csv, the markdown with plain signs for times and minus, and the LaTeX."""
    tables.make(PresentRun(number=number, config=plan.config), folder)
    text, latex = ((folder / f"table_{number}.{suffix}").read_text() for suffix in ("md", "tex"))
    text = text.replace("\N{MULTIPLICATION SIGN}", "x").replace("\N{MINUS SIGN}", "-")
    return pd.read_csv(folder / f"table_{number}.csv"), text, latex


def own(numbers: pd.DataFrame, **chosen: str) -> pd.DataFrame:
    """This project's rows with some values."""
    for key, value in {"status": "measured", **chosen}.items():
        numbers = numbers[numbers[key] == value]
    return numbers


def cells(text: str) -> list[list[str]]:
    """All rows of a markdown document's tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def row_of(text: str, *names: str) -> list[str]:
    """The one row that starts with these names."""
    found = [row for row in cells(text) if row[: len(names)] == list(names)]
    assert len(found) == 1, f"{names}: {found}"
    return found[0]


def metric(
    plan: Plan, file: str, key: str, space: str = "darts", dataset: str = "digits", method: str = "midas"
) -> list[float]:
    folders = [plan.folder(space, dataset, method, seed) for seed in plan.config.seeds]
    return [json.loads((folder / file).read_text())[key] for folder in folders]
