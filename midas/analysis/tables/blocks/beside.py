"""The block that sets our rows of the field's methods beside the published ones, and the notes on settings that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from midas.analysis.literature.originals import differing, original_of
from midas.analysis.statistics.seeds import against, summarise
from midas.analysis.tables import runs
from midas.analysis.tables.presentation import Block, Column
from midas.analysis.tables.runs import Quantity
from midas.config.keys import Experiment
from midas.plan.plan import Plan

Compared = Iterable[tuple[str, Quantity, pd.DataFrame]]
"""What of ours, its name for readers, and the published rows of it, the best known first."""
COLUMNS = [
    Column("This project", "ours"), Column("Published", "theirs"),
    Column("Difference", "difference", "interval", signed=True), Column("Test", "difference", "verdict"),
]  # fmt: skip
KEYS = {"method": "Method", "published": "Published as", "measure": "Of"}


def rows_beside(
    plan: Plan, cells: Iterable[tuple[Experiment, str]], compared: Callable[[Experiment], Compared]
) -> Iterator[dict[str, object]]:
    """Tidy rows: of each evaluated method that is one of the field's what is ours, theirs, and the difference.

    Args:
        plan: the plan.
        cells: experiments, each with one of its methods.
        compared: what of an experiment is compared; published rows without a mean are left out.
    """
    for experiment, method in cells:
        original = original_of(plan.config.methods[method])
        for measure, quantity, published in compared(experiment) if original else ():
            assert original is not None
            found = published[published["method"].isin([original.published, original.also])].dropna(subset="mean")
            for theirs in found.head(1).to_dict("records"):
                values = runs.values_of(plan, experiment, method, quantity, plan.config.seeds)
                network = f" ({theirs['network']})" if theirs["network"] else ""
                names = {"space": experiment.space, "dataset": experiment.dataset, "method": method}
                blank = {**runs.BLANK, **names, "published": f"{theirs['method']}{network}", "measure": measure}
                yield {**blank, "quantity": "ours", **summarise(values, within=quantity.within)}
                yield {
                    **blank,
                    **{str(key): value for key, value in theirs.items() if key in runs.BLANK},
                    "quantity": "theirs",
                }
                yield {**blank, "quantity": "difference", **against(values, theirs["mean"])}


def block(plan: Plan, rows: list[dict[str, object]]) -> list[Block]:
    """The block of `rows_beside`; none where no method is one of the field's."""
    if not rows:
        return []
    heading = (
        "Our rows of the field's methods beside the published ones (difference of means with a 95 % t interval; the published "
        "mean is taken as known; tests corrected for the number of tests in this table, by Holm)"
        f"{'' if plan.config.paper_protocol else '; where settings differ (below), a difference says nothing of the method'}"
    )
    keys = KEYS | ({"dataset": "Data set"} if len({row["dataset"] for row in rows}) > 1 else {})
    return [Block(heading, keys, COLUMNS, pd.DataFrame(rows))]


def settings_notes(plan: Plan, cells: Iterable[tuple[Experiment, str]]) -> list[str]:
    """In which settings our searches of the field's methods differ from the originals'."""
    told: dict[str, list[str]] = {}
    for experiment, method in cells:
        if original := original_of(plan.config.methods[method]):
            text = differing(experiment.search_by(method), original, experiment.space)
            told.setdefault(f"{original.published}'s search: {text}", []).append(method)
    return [
        f"{', '.join(dict.fromkeys(methods))}: settings (theirs) other than in {text}."
        for text, methods in told.items()
    ]
