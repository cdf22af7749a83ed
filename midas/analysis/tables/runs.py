"""What do tables show of this project's own runs? Numbers over seeds with intervals, and tests of their differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis.results import load_metrics, load_number
from midas.analysis.statistics.seeds import ANY, PERCENT, POSITIVE, difference, summarise
from midas.analysis.tables.presentation import Block, Column
from midas.config.keys import Experiment
from midas.plan.plan import Plan

HOUR = 3600

NOT_SEARCHED = "random cells are not searched"
GIVEN = "given cells are not searched here"
BLANK = {
    "mean": np.nan, "std": np.nan, "low": np.nan, "high": np.nan, "interval": "", "best": np.nan, "n": np.nan,
    "status": "measured", "protocol": "", "missing": "", "device": "", "source": "",
}  # fmt: skip
"""A row of tidy numbers before it has any."""


@dataclass(frozen=True)
class Quantity:
    """A number that steps leave in a file of a cell.

    Attributes:
        name: its name in the table.
        file: path in the folder of the cell.
        read: from the file's path to the number; NaN where there is none.
        best: `min` or `max`, None where no value is better than another.
        missing: what it means that there is none.
        within: see `summarise`.
    """

    name: str
    file: str
    read: Callable[[Path], float]
    best: Callable[[Sequence[float]], float] | None = None
    missing: str = ""
    within: tuple[float, float] = ANY


def number(*keys: str, convert: Callable[[float], float] = float) -> Callable[[Path], float]:
    """A reader of one number of a `metrics.json`, in the table's unit."""
    return lambda path: convert(load_number(path, *keys))


def error_of(percent: float) -> float:
    """An accuracy as an error, both in percent."""
    return 100 - percent


ACCURACY = Quantity("test_accuracy", "retrain/metrics.json", number("test_accuracy"), best=max, within=PERCENT)
ERROR = Quantity(
    "test_error", "retrain/metrics.json", number("test_accuracy", convert=error_of), best=min, within=PERCENT
)
PARAMS = Quantity(
    "params_m", "retrain/metrics.json", number("params", convert=lambda count: count / 1e6), within=POSITIVE
)
SEARCH_TIME = Quantity("search_seconds", "search/metrics.json", number("cost", "wall_seconds"), within=POSITIVE)


def values_of(plan: Plan, experiment: Experiment, method: str, quantity: Quantity, seeds: Sequence[int]) -> list[float]:
    """One quantity of each seed.

    Raises:
        ValueError: a file is missing or lacks the number.
    """
    return [quantity.read(file) for file in _files(plan, experiment, method, quantity, seeds)]


def measure(
    plan: Plan, experiment: Experiment, method: str, quantity: Quantity, seeds: Sequence[int] | None = None
) -> dict[str, Any]:
    """A row of tidy numbers: one quantity over the seeds, or the reason why there is none.

    Raises:
        ValueError: a file is missing or lacks the number.
    """
    seeds = seeds or plan.config.seeds
    names = {"space": experiment.space, "dataset": experiment.dataset, "method": method, "quantity": quantity.name}
    if plan.is_unsearched(method) and quantity.file.startswith("search/"):
        missing = GIVEN if plan.config.methods[method].weights == "given" else NOT_SEARCHED
        return {**BLANK, **names, "n": len(seeds), "missing": missing}
    files = _files(plan, experiment, method, quantity, seeds)
    values = [quantity.read(file) for file in files]
    source = f"{files[0].parent.parent.parent.as_posix()}/seed*/{quantity.file}"
    facts = {**BLANK, **names, "source": source, "device": devices(files)}
    if np.isnan(values).any():
        return {**facts, "n": len(seeds), "missing": quantity.missing}
    return {**facts, **summarise(values, quantity.best, quantity.within)}


def _files(plan: Plan, experiment: Experiment, method: str, quantity: Quantity, seeds: Sequence[int]) -> list[Path]:
    folders = (plan.folder(experiment.space, experiment.dataset, method, seed) for seed in seeds)
    return [folder / quantity.file for folder in folders]


def devices(files: Iterable[Path]) -> str:
    """What the runs that left some `metrics.json` ran on; empty for other files."""
    costs = (load_metrics(file).get("cost", {}) for file in files if file.name == "metrics.json")
    return " / ".join(sorted({str(cost.get("device", "an unknown device")) for cost in costs}))


def differences(
    plan: Plan,
    experiment: Experiment,
    methods: Sequence[str],
    quantity: Quantity,
    measure_name: str,
    seeds: Sequence[int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of tidy numbers: the first attention method of an experiment against each of its other methods.

    Args:
        plan: the plan.
        experiment: the experiment.
        methods: those to compare.
        quantity: what is compared.
        measure_name: its name for readers.
        seeds: those to look at, None for all.
    """
    seeds = seeds or plan.config.seeds
    first = next((method for method in methods if plan.config.methods[method].weights == "attention"), None)
    for other in methods:
        if first not in (None, other):
            values = (values_of(plan, experiment, method, quantity, seeds) for method in (str(first), other))
            names = {"space": experiment.space, "dataset": experiment.dataset, "method": first, "other": other}
            what = {"quantity": "difference", "measure": measure_name, "group": f"{first} - {other}"}
            yield {**BLANK, **names, **what, **difference(*values)}


def difference_block(rows: Sequence[dict[str, Any]], quantity: Quantity, keys: dict[str, str]) -> list[Block]:
    """The block of the differences; none where no two methods can be compared.

    Args:
        rows: result of `differences`.
        quantity: what is compared; it says which sign is good.
        keys: tidy column -> heading of what names a row beside the methods.
    """
    if not rows:
        return []
    sign = "negative" if quantity.best is min else "positive"
    what = {row["measure"] for row in rows}
    of = f" of {what.pop()}" if len(what) == 1 else ""
    heading = (
        f"Differences of means{of} between methods (percentage points; {sign}: the first is better), with 95 % Welch "
        "intervals; tests corrected for the number of tests in this table (Holm)"
    )
    columns = [Column("Difference", "difference", "interval", signed=True), Column("Test", "difference", "verdict")]
    return [Block(heading, {**keys, "group": "Methods", "n": "n of each"}, columns, pd.DataFrame(rows))]


def tests(plan: Plan, spaces: Sequence[str], compared: dict[str, Quantity]) -> list[Block]:
    """The block of tests between the evaluated methods of each experiment.

    Args:
        plan: the plan.
        spaces: those of the experiments.
        compared: name for readers -> quantity.
    """
    rows = [
        row
        for experiment in plan.config.experiments
        if experiment.space in spaces
        for name, quantity in compared.items()
        for row in differences(plan, experiment, experiment.methods, quantity, name)
    ]
    keys = {"space": "Space"} if len(spaces) > 1 else {}
    keys |= {"dataset": "Data set"} | ({"measure": "Of"} if len(compared) > 1 else {})
    return difference_block(rows, next(iter(compared.values())), keys)


def time_column(title: str, quantity: str, numbers: pd.DataFrame) -> Column:
    """Times in hours where one takes that long, else in seconds."""
    long = numbers.loc[numbers["quantity"] == quantity, "mean"].max() >= HOUR
    return Column(f"{title} (h)", quantity, factor=1 / HOUR) if long else Column(f"{title} (s)", quantity, digits=1)


def retrained(plan: Plan, found: Iterable[tuple[Experiment, str]]) -> Iterator[tuple[str, Path]]:
    """Data set and `metrics.json` of every retraining of some experiments' methods."""
    for experiment, method in found:
        for file in _files(plan, experiment, method, ERROR, plan.config.seeds):
            yield experiment.dataset, file


def evaluated(plan: Plan, space: str) -> Iterator[tuple[Experiment, str]]:
    """The experiments of a space, each with the methods that it names under `methods`."""
    return ((e, method) for e in plan.config.experiments if e.space == space for method in e.methods)
