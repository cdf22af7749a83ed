"""Make one table: ``python -m midas.analysis.tables RUN FOLDER`` writes table_N.csv, table_N.md and table_N.tex."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis import literature
from midas.analysis.dumps import load_metrics, load_number
from midas.analysis.presentation import Block, Column, Table, write
from midas.benchmark import ACCURACIES
from midas.config import Experiment
from midas.plan import Plan, PresentRun
from midas.step import main

HOUR = 3600
BLANK = {"std": np.nan, "best": np.nan, "n": np.nan, "status": "measured", "protocol": "", "spread": ""}
OWN_KEYS = {"dataset": "Data set", "method": "Method", "n": "n"}
NOT_COMPARABLE = "Published numbers, under the papers' own protocols: they don't compare with the rows above"
LOOKED_UP = [
    Column(f"{data} {half}", f"{key}_{half}_acc_200")
    for key, data in (("c10", "CIFAR-10"), ("c100", "CIFAR-100"), ("in16", "ImageNet16-120"))
    for half in ("valid", "test")
]
PUBLISHED_ERRORS = [
    Column("CIFAR-10 error (%)", "c10_error"),
    Column("best", "c10_error", "best"),
    Column("CIFAR-100 error (%)", "c100_error"),
    Column("best", "c100_error", "best"),
    Column("Params (M)", "params_m", digits=None),
    Column("Search (GPU-days)", "search_gpu_days", digits=None),
]


@dataclass(frozen=True)
class Quantity:
    """A number that steps leave in a `metrics.json`.

    Attributes:
        name: its name in the table.
        file: path in the folder of a search.
        keys: where it stands in the file.
        convert: from the file's number to the table's.
        best: `min` or `max`, None where no value is better than another.
    """

    name: str
    file: str
    keys: tuple[str, ...]
    convert: Callable[[float], float] = float
    best: Callable[[list[float]], float] | None = None


ACCURACY = Quantity("test_accuracy", "retrain/metrics.json", ("test_accuracy",), best=max)
ERROR = Quantity("test_error", "retrain/metrics.json", ("test_accuracy",), lambda percent: 100 - percent, best=min)
PARAMS = Quantity("params_m", "retrain/metrics.json", ("params",), lambda count: count / 1e6)
SEARCH_TIME = Quantity("search_seconds", "search/metrics.json", ("cost", "wall_seconds"))


def measure(plan: Plan, experiment: Experiment, method: str, quantity: Quantity) -> dict[str, Any]:
    """Mean, sample standard deviation and best of one quantity over the seeds.

    Returns:
        A row of tidy numbers; std is NaN for a single seed.

    Raises:
        ValueError: a file is missing or lacks the number.
    """
    folders = [plan.folder(experiment.space, experiment.dataset, method, seed) for seed in plan.config.seeds]
    values = [quantity.convert(load_number(folder / quantity.file, *quantity.keys)) for folder in folders]
    return {
        **BLANK,
        "method": method,
        "dataset": experiment.dataset,
        "quantity": quantity.name,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
        "best": quantity.best(values) if quantity.best else np.nan,
        "n": len(values),
        "source": f"{folders[0].parent.as_posix()}/seed*/{quantity.file}",
    }


def nas_bench_201(plan: Plan) -> Table:
    """Table 1: accuracies on NAS-Bench-201, looked up where the configuration names a table of it, else trained.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    if plan.evaluation("nas_bench_201") == "lookup":
        return _looked_up(plan)
    rows = [
        measure(plan, *found, quantity)
        for found in _evaluated(plan, "nas_bench_201")
        for quantity in (ACCURACY, PARAMS)
    ]
    columns = [Column("Test accuracy (%)", "test_accuracy"), Column("best", "test_accuracy", "best")]
    columns += [Column("Params (M)", "params_m", digits=3)]
    own = Block("This project: found cells trained from scratch", OWN_KEYS, columns, pd.DataFrame(rows))
    names = {"method": "Method", "searched_on": "Searched on"}
    published = Block(NOT_COMPARABLE, names, LOOKED_UP, literature.load("nas_bench_201").assign(n=np.nan))
    what = (
        "NAS-Bench-201: test accuracy of the found cells, trained from scratch (no table of the benchmark was given)."
    )
    return Table(1, f"{what} {_about(plan, 'searches, each retrained once')}", [own, published])


def _looked_up(plan: Plan) -> Table:
    quantities = [Quantity(name, "lookup/metrics.json", ("cell", name), best=max) for name in ACCURACIES]
    rows = [measure(plan, *found, quantity) for found in _evaluated(plan, "nas_bench_201") for quantity in quantities]
    own = pd.DataFrame(rows).assign(group="this project", searched_on=lambda frame: frame["dataset"])
    published = literature.load("nas_bench_201").assign(group="published", n=np.nan)
    keys = {"group": "Source", "method": "Method", "searched_on": "Searched on", "n": "n"}
    block = Block("", keys, LOOKED_UP, pd.concat([own, _benchmark(plan), published]))
    what = (
        "NAS-Bench-201: accuracies (%) of the found cells, looked up in the benchmark (200 epochs, mean of its seeds)."
    )
    notes = [
        "Random cell: mean and standard deviation over all n cells of the benchmark.",
        "Optimum: the best of each column by itself; the columns' best cells differ.",
    ]
    return Table(1, f"{what} {_about(plan, 'searches')}", [block], notes)


def _benchmark(plan: Plan) -> pd.DataFrame:
    """Rows of a random cell and of the optimum, from the first look-up: all were made in the same table."""
    experiment, method = next(_evaluated(plan, "nas_bench_201"))
    path = plan.folder("nas_bench_201", experiment.dataset, method, plan.config.seeds[0]) / "lookup/metrics.json"
    count = load_number(path, "benchmark_cells")
    common = {**BLANK, "group": "benchmark", "searched_on": "", "source": path.as_posix()}
    random, optimum = [], []
    for name in ACCURACIES:
        best, mean, std = (load_number(path, "benchmark", name, key) for key in ("best", "mean", "std"))
        random.append({**common, "method": "random cell", "quantity": name, "mean": mean, "std": std, "n": count})
        optimum.append({**common, "method": "optimum", "quantity": name, "mean": best})
    return pd.DataFrame(random + optimum)


def darts(plan: Plan) -> Table:
    """Table 2: test error, parameters and search cost in the DARTS space.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    found = list(_evaluated(plan, "darts"))
    rows = [
        {**measure(plan, *one, quantity), "device": _device(plan, *one)}
        for one in found
        for quantity in (ERROR, PARAMS, SEARCH_TIME)
    ]
    numbers = pd.DataFrame(rows)
    long = numbers.loc[numbers["quantity"] == SEARCH_TIME.name, "mean"].max() >= HOUR
    columns = [Column("Test error (%)", "test_error"), Column("best", "test_error", "best")]
    columns += [Column("Params (M)", "params_m", digits=3)]
    columns += [
        Column("Search (hours)", "search_seconds", factor=1 / HOUR) if long else Column("Search (s)", "search_seconds")
    ]
    own = Block("This project", OWN_KEYS, columns, numbers)
    heading = "Published numbers" if plan.config.paper_protocol else NOT_COMPARABLE
    published = Block(heading, {"method": "Method"}, PUBLISHED_ERRORS, literature.load("darts").assign(n=np.nan))
    notes = [
        f"Search (this project): wall time of one search, on {', '.join(sorted(set(numbers['device'])))}.",
        "Params: without the auxiliary head.",
    ]
    what = "DARTS space: test error of the found cells, trained from scratch."
    return Table(2, f"{what} {_about(plan, 'searches, each retrained once')}", [own, published], notes)


def _device(plan: Plan, experiment: Experiment, method: str) -> str:
    """What the searches ran on."""
    folders = (plan.folder(experiment.space, experiment.dataset, method, seed) for seed in plan.config.seeds)
    costs = (load_metrics(folder / "search/metrics.json").get("cost", {}) for folder in folders)
    return " / ".join(sorted({str(cost.get("device", "an unknown device")) for cost in costs}))


def _evaluated(plan: Plan, space: str) -> Iterator[tuple[Experiment, str]]:
    """The experiments of a space, each with its evaluated methods."""
    return ((e, method) for e in plan.config.experiments if e.space == space for method in e.methods)


def _about(plan: Plan, over: str) -> str:
    """Size, seeds, what the spread is over, and how far from the paper's protocol."""
    config, count = plan.config, len(plan.config.seeds)
    seeds = f"seed{'s' if count > 1 else ''} {', '.join(map(str, config.seeds))}"
    spread = f"Mean ± sample standard deviation over n {over}." if count > 1 else "A single search: no spread."
    protocol = "" if config.paper_protocol else " Not the paper's protocol."
    return f"Size {config.size} ({config.note}); {seeds}. {spread}{protocol}"


TABLES: dict[int, Callable[[Plan], Table]] = {1: nas_bench_201, 2: darts}


def make(run: PresentRun, folder: Path) -> None:
    """Make the table `run.number`.

    Raises:
        ValueError: the configuration has no such table, or a file that it needs is missing or damaged.
    """
    plan = Plan(run.config)
    if run.number not in plan.tables():
        raise ValueError(f"table {run.number} does not exist at size {run.config.size}; allowed: {plan.tables()}")
    write(TABLES[run.number](plan), folder)


if __name__ == "__main__":
    main(PresentRun, make)
