"""Tables 1 and 2: how good the found cells are on NAS-Bench-201 and in the DARTS space."""

from __future__ import annotations

import pandas as pd

from midas.analysis import literature
from midas.analysis.results import load_number
from midas.analysis.statistics.seeds import PERCENT
from midas.analysis.tables import runs, wording
from midas.analysis.tables.blocks import beside
from midas.analysis.tables.presentation import Block, Column, Table
from midas.analysis.tables.runs import Quantity
from midas.config.keys import Experiment
from midas.plan.plan import Plan
from midas.spaces.benchmark import ACCURACIES

OWN_KEYS = {"dataset": "Data set", "method": "Method", "n": "n"}
BENCHMARK_DATA = {"c10": "CIFAR-10", "c100": "CIFAR-100", "in16": "ImageNet16-120"}
LOOKED_UP = [
    Column(f"{data} {half}", f"{key}_{half}_acc_200")
    for key, data in BENCHMARK_DATA.items()
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


def nas_bench_201(plan: Plan) -> Table:
    """Table 1: accuracies on NAS-Bench-201, looked up where the configuration names a table of it, else trained.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    return _looked_up(plan) if plan.evaluation("nas_bench_201") == "lookup" else _trained(plan)


def _trained(plan: Plan) -> Table:
    found = runs.evaluated(plan, "nas_bench_201")
    rows = [runs.measure(plan, *cell, quantity) for cell in found for quantity in (runs.ACCURACY, runs.PARAMS)]
    columns = [Column("Test accuracy (%)", "test_accuracy"), Column("best", "test_accuracy", "best")]
    columns += [Column("Params (M)", "params_m", digits=3)]
    trained = wording.retrainings(plan, "nas_bench_201")
    heading = (
        f"This project: found cells trained from scratch (cells of a stage \N{MULTIPLICATION SIGN} channels: {trained})"
    )
    own = Block(heading, OWN_KEYS, columns, pd.DataFrame(rows))
    names = {"method": "Method", "searched_on": "Searched on"}
    published = Block(
        f"Published numbers{wording.NOT_COMPARABLE}",
        names,
        LOOKED_UP,
        literature.load("nas_bench_201"),
        wording.NOT_STATED,
    )
    tests = runs.tests(plan, ["nas_bench_201"], {"test accuracy": runs.ACCURACY})
    what = (
        "NAS-Bench-201: test accuracy of the found cells, trained from scratch (no table of the benchmark was given)."
    )
    notes = wording.tested_parts(runs.retrained(plan, runs.evaluated(plan, "nas_bench_201")))
    return Table(1, f"{what} {wording.about(plan, wording.RETRAINED)}", [own, *tests, published], notes)


def _looked_up(plan: Plan) -> Table:
    quantities = {
        name: Quantity(name, "lookup/metrics.json", runs.number("cell", name), best=max, within=PERCENT)
        for name in ACCURACIES
    }
    rows = [
        runs.measure(plan, *cell, quantity)
        for cell in runs.evaluated(plan, "nas_bench_201")
        for quantity in quantities.values()
    ]
    own = pd.DataFrame(rows).assign(group="this project", searched_on=lambda frame: frame["dataset"])
    own.loc[own["method"].map(plan.is_unsearched), "searched_on"] = "not searched"
    published = literature.load("nas_bench_201").assign(group="published")
    keys = {"group": "Source", "method": "Method", "searched_on": "Searched on", "n": "n"}
    block = Block("", keys, LOOKED_UP, pd.concat([own, _benchmark(plan), published]), wording.NOT_STATED)
    compared = {f"{data} test": quantities[f"{key}_test_acc_200"] for key, data in BENCHMARK_DATA.items()}
    tests = runs.tests(plan, ["nas_bench_201"], compared)
    what = (
        "NAS-Bench-201: accuracies (%) of the found cells, looked up in the benchmark (200 epochs, mean of its seeds)."
    )
    notes = [
        "All cells: mean and standard deviation over all n cells of the benchmark, i.e. of a cell drawn at random.",
        "Optimum: the best of the n cells, in each column by itself; the columns' best cells differ.",
        wording.same_function_note(),
        *beside.settings_notes(plan, runs.evaluated(plan, "nas_bench_201")),
    ]
    published_too = _beside(plan, "nas_bench_201", {name: (found, found.name) for name, found in compared.items()})
    return Table(1, f"{what} {wording.about(plan, wording.SEARCHED)}", [block, *published_too, *tests], notes)


def _beside(plan: Plan, space: str, compared: dict[str, tuple[Quantity, str]]) -> list[Block]:
    """Our rows of the field's methods beside their published ones on CIFAR-10.

    Args:
        plan: the plan.
        space: of the experiments.
        compared: name for readers -> ours, and the published quantity.
    """
    published = literature.load(space)

    def of(experiment: Experiment) -> beside.Compared:
        for measure, (quantity, theirs) in compared.items() if experiment.dataset == "cifar10" else ():
            yield measure, quantity, published[published["quantity"] == theirs]

    return beside.block(plan, list(beside.rows_beside(plan, runs.evaluated(plan, space), of)))


def _benchmark(plan: Plan) -> pd.DataFrame:
    """Rows of all cells and of the optimum, from the first look-up: all were made in the same table."""
    experiment, method = next(runs.evaluated(plan, "nas_bench_201"))
    path = plan.folder("nas_bench_201", experiment.dataset, method, plan.config.seeds[0]) / "lookup/metrics.json"
    count = load_number(path, "benchmark_cells")
    common = {**runs.BLANK, "group": "benchmark", "searched_on": "not searched", "n": count, "source": path.as_posix()}
    every, optimum = [], []
    for name in ACCURACIES:
        best, mean, std = (load_number(path, "benchmark", name, key) for key in ("best", "mean", "std"))
        every.append({**common, "method": "all cells", "quantity": name, "mean": mean, "std": std})
        optimum.append({**common, "method": "optimum", "quantity": name, "mean": best})
    return pd.DataFrame(every + optimum)


def darts(plan: Plan) -> Table:
    """Table 2: test error, parameters and search cost in the DARTS space.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    quantities = (runs.ERROR, runs.PARAMS, runs.SEARCH_TIME)
    numbers = pd.DataFrame([runs.measure(plan, *cell, q) for cell in runs.evaluated(plan, "darts") for q in quantities])
    columns = [Column("Test error (%)", "test_error"), Column("best", "test_error", "best")]
    columns += [Column("Params (M)", "params_m", digits=3), runs.time_column("Search", runs.SEARCH_TIME.name, numbers)]
    ours = f"This project (layers \N{MULTIPLICATION SIGN} channels: {wording.retrainings(plan, 'darts')})"
    own = Block(ours, OWN_KEYS, columns, numbers)
    tests = runs.tests(plan, ["darts"], {"test error": runs.ERROR})
    heading = wording.published_heading(plan, " on CIFAR")
    theirs = Block(heading, {"method": "Method"}, PUBLISHED_ERRORS, _published_errors(), wording.NOT_STATED)
    notes = [wording.device_note("Search (this project): wall time of one search", numbers, runs.SEARCH_TIME.name)]
    what = "DARTS space: test error of the found cells, trained from scratch."
    notes += wording.tested_parts(runs.retrained(plan, runs.evaluated(plan, "darts")))
    notes += wording.first_order_note(plan, [method for _, method in runs.evaluated(plan, "darts")])
    notes += ["Params: without the auxiliary head.", *beside.settings_notes(plan, runs.evaluated(plan, "darts"))]
    published_too = _beside(plan, "darts", {"CIFAR-10 error": (runs.ERROR, "c10_error")})
    return Table(2, f"{what} {wording.about(plan, wording.RETRAINED)}", [own, *tests, *published_too, theirs], notes)


def _published_errors() -> pd.DataFrame:
    """Published numbers of the methods that have an error on CIFAR; what concerns ImageNet is table 3's."""
    numbers = literature.load("darts")
    numbers = numbers[~numbers["quantity"].str.startswith("imagenet")]
    return numbers[numbers["method"].isin(numbers.loc[numbers["quantity"].str.endswith("error"), "method"])]
