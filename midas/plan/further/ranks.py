"""Methods ranked by the accuracy of their cells: whether they can be, and by which results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midas.config.keys import Experiment
from midas.files.naming import among
from midas.plan.plan import Plan

KEY, TABLE, FIGURE, ALONE = "ranks", "S1", "S1", False


def problems(plan: Plan) -> Iterator[str]:
    """Methods that nothing retrains together, or that are retrained by other settings in one experiment than in another."""
    ranks, known = plan.config.ranks, plan.config.methods
    if ranks is None:
        return
    for name in dict.fromkeys(name for name in ranks.methods if name not in known):
        yield f"ranks.methods: {name!r} does not exist{among(name, known)}"
    if len(set(ranks.methods)) < len(ranks.methods):
        yield f"ranks.methods: {ranks.methods} is not allowed; each method once"
    found = experiments(plan)
    if not found:
        yield f"ranks.methods: no experiment retrains the cells of all of them: {', '.join(ranks.methods)}"
    for experiment in found[1:]:
        if (own := list(experiment.retrainings())) != (first := list(found[0].retrainings())):
            index = plan.config.experiments.index(experiment)
            yield (
                f"experiments.{index}.retrain_also: settings {', '.join(own)} are not allowed with ranks, which compares "
                f"those of all: {', '.join(first)}"
            )


def experiments(plan: Plan) -> list[Experiment]:
    """Experiments whose methods are ranked: those that retrain the cells of all methods that are."""
    chosen = plan.config.ranks
    return [
        experiment
        for experiment in plan.config.experiments
        if chosen is not None
        and plan.evaluation(experiment.space) == "retrain"
        and experiment.retrain is not None
        and set(chosen.methods) <= set(experiment.methods)
    ]


def files(plan: Plan) -> list[Path]:
    """Nothing beside what retrainings leave with their `metrics.json`, which is published as of any step."""
    return []


def metrics(plan: Plan) -> list[Path]:
    """The metrics of every retraining that methods are ranked by."""
    chosen, found = plan.config.ranks, []
    for experiment in experiments(plan):
        for cell in plan.cells(experiment.space, evaluated=True):
            if chosen is not None and cell.experiment == experiment and cell.method in chosen.methods:
                found += [plan.retrain_folder(cell, name) / "metrics.json" for name in experiment.retrainings()]
    return found
