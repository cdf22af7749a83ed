"""Table 4: errors in RobustDARTS's spaces S1 to S4, with the width of the evaluated network and the statistic in view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis import literature
from midas.analysis.tables import runs, wording
from midas.analysis.tables.blocks import beside
from midas.analysis.tables.presentation import Block, Column, Table
from midas.config.keys import Experiment
from midas.plan.plan import Plan
from midas.plan.shown import ROBUST_DARTS

KEYS = {"method": "Method", "statistic": "Statistic", "network": "Layers \N{MULTIPLICATION SIGN} channels"}
COLUMNS = [Column(f"{space.upper()} error (%)", f"{space}_error", "either") for space in ROBUST_DARTS]
PUBLISHED_ON = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}
NOT_ESTABLISHED = "not stated"
NO_EXPERIMENT = "not an experiment of this size"
NO_METHOD = "not a method of that experiment"


def robust_darts(plan: Plan) -> Table:
    """Table 4: test errors of the cells found in S1 to S4, data set by data set.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    experiments: dict[str, dict[str, Experiment]] = {}
    for experiment in plan.config.experiments:
        if experiment.space in ROBUST_DARTS:
            experiments.setdefault(experiment.dataset, {})[experiment.space] = experiment
    own = [_own(plan, dataset, spaces) for dataset, spaces in experiments.items()]
    tests = runs.tests(plan, ROBUST_DARTS, {"test error": runs.ERROR})
    datasets = [name for name in PUBLISHED_ON if name in experiments] or ["cifar10"]
    published = [_published(plan, dataset) for dataset in datasets]
    what = "RobustDARTS S1 to S4: test error of the found cells, trained from scratch."
    cells = [cell for space in ROBUST_DARTS for cell in runs.evaluated(plan, space)]
    notes = [
        "Rows of different widths, and means and bests, don't compare.",
        *wording.tested_parts(runs.retrained(plan, cells)),
        *beside.settings_notes(plan, cells),
    ]
    published_too = beside.block(plan, list(beside.rows_beside(plan, cells, _compared)))
    return Table(
        4, f"{what} {wording.about(plan, wording.RETRAINED)}", [*own, *tests, *published_too, *published], notes
    )


def _compared(experiment: Experiment) -> beside.Compared:
    """The error in a space, and published means of it: networks as wide as ours first."""
    name = f"{experiment.space}_error"
    numbers = literature.load("rdarts")
    of = numbers[(numbers["quantity"] == name) & (numbers["dataset"] == experiment.dataset)]
    assert experiment.retrain is not None  # its methods are retrained
    ours = f"{experiment.retrain.cells}x{experiment.retrain.channels}"
    first = of.assign(other=of["network"] != ours).sort_values("other", kind="stable")
    yield f"{experiment.space.upper()} error", runs.ERROR, first


def _own(plan: Plan, dataset: str, experiments: dict[str, Experiment]) -> Block:
    methods = dict.fromkeys(method for experiment in experiments.values() for method in experiment.methods)
    rows = [row for method in methods for row in _method_rows(plan, dataset, method, experiments)]
    epochs = " or ".join(
        sorted({wording.counted(e.retrain.epochs, "epoch") for e in experiments.values() if e.retrain})
    )
    heading = f"This project on {dataset} (retrained for {epochs})"
    return Block(heading, KEYS, COLUMNS, pd.DataFrame(rows))


def _method_rows(plan: Plan, dataset: str, method: str, experiments: dict[str, Experiment]) -> Iterator[dict[str, Any]]:
    """A method's mean in each space and, with more than one seed, its best."""
    count = len(plan.config.seeds)
    found = {}
    for space in ROBUST_DARTS:
        blank = {**runs.BLANK, "space": space, "dataset": dataset, "method": method}
        if space not in experiments:
            found[space] = {**blank, "missing": NO_EXPERIMENT}
        elif method not in experiments[space].methods:
            found[space] = {**blank, "missing": NO_METHOD}
        else:
            found[space] = runs.measure(plan, experiments[space], method, runs.ERROR)
    network = _networks(
        {space: f"{e.retrain.cells}x{e.retrain.channels}" for space, e in experiments.items() if e.retrain}
    )
    for space, row in found.items():
        names = {"quantity": f"{space}_error", "network": network}
        statistic = f"mean of {count}" if count > 1 else "single value"
        yield {**row, **names, "statistic": statistic, "best": np.nan}
    for space, row in found.items() if count > 1 else ():
        unknown = dict.fromkeys(("mean", "std", "low", "high"), np.nan)
        names = {"quantity": f"{space}_error", "network": network, "interval": ""}
        yield {**row, **unknown, **names, "statistic": f"best of {count}"}


def _networks(networks: dict[str, str]) -> str:
    """Layers x channels of the evaluated networks as text: once if all spaces share them, else with the spaces.

    Args:
        networks: space -> "20x36", or empty where it is not established.
    """
    spaces: dict[str, list[str]] = {}
    for space, network in networks.items():
        spaces.setdefault(network or NOT_ESTABLISHED, []).append(space.upper())
    if len(spaces) == 1:
        return next(iter(spaces))
    return ", ".join(f"{network} ({' '.join(names)})" for network, names in spaces.items())


def _published(plan: Plan, dataset: str) -> Block:
    """Published errors, ordered by the width of the evaluated network and by statistic."""
    numbers = literature.load("rdarts")
    numbers = numbers[numbers["dataset"] == dataset]
    rows = []
    for _, group in numbers.groupby(["method", "statistic"], sort=False):
        widths = dict(zip(group["quantity"].str.removesuffix("_error"), group["network"], strict=True))
        rows.append(group.assign(network=_networks(widths)))
    ordered = pd.concat(rows).sort_values(["network", "statistic"], kind="stable", ascending=[True, False])
    heading = wording.published_heading(plan, f" on {PUBLISHED_ON[dataset]}")
    return Block(heading, KEYS, COLUMNS, ordered, wording.NOT_STATED)
