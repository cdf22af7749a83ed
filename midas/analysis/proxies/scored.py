"""What is known of the cells of a sample: their scores, and where there are tables, their accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from midas.analysis.results import load_metrics, load_table
from midas.plan.plan import Plan
from midas.spaces.accuracies import read_accuracies
from midas.spaces.benchmark import Rows, read_table

CLEAN = {
    "c10_test_acc_200": "CIFAR-10 test",
    "c100_test_acc_200": "CIFAR-100 test",
    "in16_test_acc_200": "ImageNet16-120 test",
}
"""Columns of the benchmark's table that scores are set against, and their names for readers."""


@dataclass(frozen=True)
class Sample:
    """The scored cells.

    Attributes:
        scores: a row for each cell, in the order in which they were drawn; index arch, columns are the scores.
        seconds: of one cell, on average, the reading of the data included.
        device: what they were scored on.
    """

    scores: pd.DataFrame
    seconds: float
    device: str


def read_sample(plan: Plan) -> Sample:
    """The scores of all parts.

    Raises:
        ValueError: a part is missing or damaged, or holds a cell that another one holds.
    """
    assert plan.config.proxies is not None
    parts, seconds, devices = [], 0.0, set()
    for chunk in range(plan.config.proxies.chunks):
        folder = plan.chunk_folder(chunk)
        part = load_table(folder / "scores.csv", ["index", "arch"])
        cost = load_metrics(folder / "metrics.json").get("cost", {})
        try:
            seconds += float(cost["wall_seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'metrics.json'}: cost.wall_seconds is missing") from error
        devices.add(str(cost.get("device", "an unknown device")))
        parts.append(part)
    whole = pd.concat(parts).set_index("arch")
    if not whole.index.is_unique:
        twice = whole.index[whole.index.duplicated()][0]
        raise ValueError(f"{plan.chunk_folder(0).parent}: the cell {twice} was scored twice; each once")
    return Sample(whole.drop(columns="index").astype(float), seconds / len(whole), " / ".join(sorted(devices)))


def accuracies(plan: Plan) -> tuple[dict[str, Rows], dict[str, str]]:
    """Accuracies by column, from the benchmark's table and from the user's of robust ones.

    Returns:
        Column -> cell -> column -> percent (all columns of the table that it is from); column -> name for readers.

    Raises:
        ValueError: a table can't be read.
    """
    config, found, names = plan.config, dict[str, Rows](), dict(CLEAN)
    if config.nas_bench_201_table:
        clean = read_table(Path(config.nas_bench_201_table), config.nas_bench_201_cells)
        found |= dict.fromkeys(CLEAN, clean)
    if config.proxies is not None and config.proxies.robust is not None:
        robust = config.proxies.robust
        rows = read_accuracies(Path(robust.table), robust.columns)
        found |= dict.fromkeys(robust.columns, rows)
        names |= {name: name for name in robust.columns}
    return found, names


def values_of(cells: list[str], column: str, tables: dict[str, Rows]) -> np.ndarray:
    """Accuracies of some cells [n]; NaN of those that no table holds."""
    rows = tables.get(column, {})
    return np.array([rows[cell][column] if cell in rows else np.nan for cell in cells])
