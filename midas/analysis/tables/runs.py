"""What tables show of this project's own runs: numbers over seeds with intervals, and tests of their differences."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from midas.analysis.dumps import load_metrics, load_number
from midas.analysis.tables.presentation import Block, Column
from midas.config.keys import Experiment
from midas.plan.plan import Plan
from midas.spaces import get_space

HOUR = 3600
LEVEL = 0.05

ONE_SEED = "one seed: no spread"
NOT_SEARCHED = "random cells are not searched"
NOT_COMPARABLE = ", under the papers' own protocols: they don't compare with the rows above"
SEARCHED = "one search (or random draw)"
RETRAINED = f"{SEARCHED} and one retraining"
NOT_STATED = "in published rows: not stated by the source"
SAME_FUNCTION = Path(__file__).parents[3] / "benchmarks/same_function.json"
"""How far cells of NAS-Bench-201 that compute the same function are apart, as `benchmarks.same_function` measured it."""

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
    """

    name: str
    file: str
    read: Callable[[Path], float]
    best: Callable[[Sequence[float]], float] | None = None
    missing: str = ""


def number(*keys: str, convert: Callable[[float], float] = float) -> Callable[[Path], float]:
    """A reader of one number of a `metrics.json`, in the table's unit."""
    return lambda path: convert(load_number(path, *keys))


def error_of(percent: float) -> float:
    """An accuracy as an error, both in percent."""
    return 100 - percent


ACCURACY = Quantity("test_accuracy", "retrain/metrics.json", number("test_accuracy"), best=max)
ERROR = Quantity("test_error", "retrain/metrics.json", number("test_accuracy", convert=error_of), best=min)
PARAMS = Quantity("params_m", "retrain/metrics.json", number("params", convert=lambda count: count / 1e6))
SEARCH_TIME = Quantity("search_seconds", "search/metrics.json", number("cost", "wall_seconds"))


def summarise(values: Sequence[float], best: Callable[[Sequence[float]], float] | None = None) -> dict[str, Any]:
    """Mean, sample standard deviation, 95 % t interval of the mean, and the best, of a number over the seeds.

    The interval takes the runs as a random sample of normally distributed ones.

    Args:
        values: one for each seed.
        best: `min` or `max`, None where no value is better than another.

    Returns:
        mean, std, low, high, interval, best, n, missing; std, low and high are NaN for a single seed.
    """
    n, mean = len(values), float(np.mean(values))
    row = {"mean": mean, "best": best(values) if best else np.nan, "n": n}
    if n == 1:
        return {**row, "missing": ONE_SEED}
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * std / n**0.5
    interval = "95 % t interval of the mean over seeds"
    return {**row, "std": std, "low": mean - half, "high": mean + half, "interval": interval, "missing": ""}


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
    if plan.is_random(method) and quantity.file.startswith("search/"):
        return {**BLANK, **names, "n": len(seeds), "missing": NOT_SEARCHED}
    files = _files(plan, experiment, method, quantity, seeds)
    values = [quantity.read(file) for file in files]
    source = f"{files[0].parent.parent.parent.as_posix()}/seed*/{quantity.file}"
    facts = {**BLANK, **names, "source": source, "device": devices(files)}
    if np.isnan(values).any():
        return {**facts, "n": len(seeds), "missing": quantity.missing}
    return {**facts, **summarise(values, quantity.best)}


def _files(plan: Plan, experiment: Experiment, method: str, quantity: Quantity, seeds: Sequence[int]) -> list[Path]:
    folders = (plan.folder(experiment.space, experiment.dataset, method, seed) for seed in seeds)
    return [folder / quantity.file for folder in folders]


def devices(files: Iterable[Path]) -> str:
    """What the runs that left some `metrics.json` ran on; empty for other files."""
    costs = (load_metrics(file).get("cost", {}) for file in files if file.name == "metrics.json")
    return " / ".join(sorted({str(cost.get("device", "an unknown device")) for cost in costs}))


def difference(first: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Difference of two means with its 95 % interval and test by Welch (Biometrika 1947).

    Returns:
        mean, low, high, interval, n, n_other, p_value, verdict in words.
    """
    row = {"mean": float(np.mean(first) - np.mean(other)), "n": len(first), "n_other": len(other)}
    if min(len(first), len(other)) < 2:
        return {**row, "verdict": "one seed: no test"}
    if np.ptp(first) == np.ptp(other) == 0:
        return {**row, "verdict": "no variation over seeds: no test"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # all seeds of one method found the same: its variance is 0 indeed
        test = stats.ttest_ind(first, other, equal_var=False)
    low, high = test.confidence_interval(1 - LEVEL)
    verdict = f"significant at {LEVEL}" if test.pvalue < LEVEL else "not significant"
    interval = "95 % Welch interval of the difference"
    found = {"low": float(low), "high": float(high), "interval": interval, "p_value": float(test.pvalue)}
    return {**row, **found, "verdict": verdict}


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
        "intervals; tests not corrected for their number"
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


def device_note(what: str, numbers: pd.DataFrame, quantity: str) -> str:
    """What the runs behind a quantity ran on."""
    names = sorted({name for name in numbers.loc[numbers["quantity"] == quantity, "device"] if name})
    return f"{what}, on {', '.join(names)}." if names else f"{what}."


def tested_parts(files: Iterable[tuple[str, Path]]) -> list[str]:
    """Of which folder the test images of data sets were, a sentence each; none of data sets of which no file says it.

    Args:
        files: data set and `metrics.json` of each training.

    Raises:
        ValueError: a file is missing or damaged.
    """
    parts: dict[str, set[str | None]] = {}
    for dataset, file in files:
        parts.setdefault(dataset, set()).add(load_metrics(file).get("test_part"))
    return [
        f"Test images of {dataset}: {', '.join(sorted(f'{part}/' if part else 'not recorded' for part in found))}."
        for dataset, found in parts.items()
        if found != {None}
    ]


def retrained(plan: Plan, found: Iterable[tuple[Experiment, str]]) -> Iterator[tuple[str, Path]]:
    """Data set and `metrics.json` of every retraining of some experiments' methods."""
    for experiment, method in found:
        for file in _files(plan, experiment, method, ERROR, plan.config.seeds):
            yield experiment.dataset, file


def evaluated(plan: Plan, space: str) -> Iterator[tuple[Experiment, str]]:
    """The experiments of a space, each with the methods that it names under `methods`."""
    return ((e, method) for e in plan.config.experiments if e.space == space for method in e.methods)


def first_order_note(plan: Plan, methods: Sequence[str]) -> list[str]:
    """That DARTS as it was published chose among one operation more than static methods do in its space, if some do."""
    chosen = [plan.config.methods[name] for name in methods]
    fewer = dict.fromkeys(n for n, m in zip(methods, chosen, strict=True) if m.weights == "static" and not m.offer_none)
    if not fewer:
        return []
    count = len(get_space("darts").operations)
    ours = f"{', '.join(fewer)}: first-order DARTS over the {count} operations of this space."
    return [
        f'{ours} The published rows of DARTS were searched with "none" as one more in the softmax (key offer_none).'
    ]


def same_function_note() -> str:
    """That single cells of the benchmark are compared with an error."""
    found = json.loads(SAME_FUNCTION.read_text())["c10_test_acc_200"]
    return (
        "In the benchmark, cells that compute the same function differ, too, by what a training does by chance: on the CIFAR-10 "
        f"test by up to {found['largest']:.1f} points, {found['median']:.1f} in the median; in the best tenth of the functions "
        f"by up to {found['good_largest']:.1f} (benchmarks/same_function.json). Single cells that are less apart have no order."
    )


def counted(count: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def retrainings(plan: Plan, space: str) -> str:
    """What the cells of a space were trained as, data set by data set."""
    texts = {
        e.dataset: f"{e.retrain.cells}x{e.retrain.channels}, {counted(e.retrain.epochs, 'epoch')}"
        for e in plan.config.experiments
        if e.space == space and e.retrain
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{dataset} {text}" for dataset, text in texts.items())


def published_heading(plan: Plan, where: str = "") -> str:
    """Heading of published numbers: they compare with those of the paper's protocol alone."""
    return f"Published numbers{where}{'' if plan.config.paper_protocol else NOT_COMPARABLE}"


def about(plan: Plan, run: str) -> str:
    """Size, seeds, what the spread is over, and how far from the paper's protocol.

    Args:
        plan: the plan.
        run: what is done once for each seed.
    """
    config = plan.config
    seeds = f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    over = f"Mean ± sample standard deviation over n seeds, each {run}."
    spread = over if len(config.seeds) > 1 else f"One seed, {run}: no spread."
    protocol = "" if config.paper_protocol else " Not the paper's protocol."
    return f"Size {config.size} ({config.note}); {seeds}. {spread}{protocol}"
