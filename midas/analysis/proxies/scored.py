"""What is known of the cells of a sample: their scores, and where there are tables, their accuracies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from midas.analysis.results import load_metrics, load_table
from midas.plan.plan import Plan
from midas.spaces.accuracies import CLEAN


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


def accuracies(plan: Plan) -> tuple[pd.DataFrame, dict[str, str]]:
    """Accuracies of the scored cells and of those that searches found.

    Returns:
        A row for each cell, index arch, columns are the accuracies that are known, in percent; column -> name for readers, also
        of those for which no table is named.

    Raises:
        ValueError: the file of them is missing or damaged.
    """
    config, names = plan.config, dict(CLEAN)
    robust = config.proxies.robust if config.proxies else None
    known = list(CLEAN) if config.nas_bench_201_table else []
    if robust is not None:
        names |= {name: name for name in robust.columns}
        known += robust.columns
    if not known:
        return pd.DataFrame(), names
    table = load_table(plan.accuracies_folder / "accuracies.csv", ["arch", *known])
    return table.set_index("arch")[known].astype(float), names


def values_of(cells: list[str], column: str, table: pd.DataFrame) -> np.ndarray:
    """Accuracies of some cells [n]; NaN of those that are in no table."""
    if column not in table:
        return np.full(len(cells), np.nan)
    return table[column].reindex(cells).to_numpy()
