"""The accuracies that methods are ranked by, read from their retrainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midas.analysis.results import load_number
from midas.plan.cells import Cell
from midas.plan.further import ranks
from midas.plan.plan import Plan


class Ranked(NamedTuple):
    """Test accuracies in percent, and what they are of.

    Attributes:
        accuracy: [benchmarks, settings, methods, seeds].
        benchmarks: space and data set of each.
        settings: names of the retraining settings.
        methods: names of the methods.
    """

    accuracy: np.ndarray
    benchmarks: list[tuple[str, str]]
    settings: list[str]
    methods: list[str]

    @property
    def labels(self) -> list[str]:
        """Names of the benchmarks: the space, with the data set where there are several."""
        several = len({dataset for _, dataset in self.benchmarks}) > 1
        return [f"{space} on {dataset}" if several else space for space, dataset in self.benchmarks]


def ranked(plan: Plan) -> Ranked:
    """Read the accuracies of all cells that are ranked.

    Raises:
        ValueError: the configuration ranks nothing, or a metrics file is missing or lacks the number.
    """
    experiments = ranks.experiments(plan)
    if plan.config.ranks is None or not experiments:
        raise ValueError(f"size {plan.config.size} ranks no methods; its configuration has no key ranks")
    methods, settings = plan.config.ranks.methods, list(experiments[0].retrainings())

    def accuracy(cell: Cell, setting: str) -> float:
        return load_number(plan.retrain_folder(cell, setting) / "metrics.json", "test_accuracy")

    found = [
        [[[accuracy(Cell(e, m, seed), setting) for seed in plan.config.seeds] for m in methods] for setting in settings]
        for e in experiments
    ]
    return Ranked(np.array(found), [(e.space, e.dataset) for e in experiments], settings, methods)
