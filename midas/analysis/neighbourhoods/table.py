"""Table S2: ``python -m midas.analysis.neighbourhoods.table RUN FOLDER`` writes table_s2.csv, table_s2.md and table_s2.tex."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from midas.analysis.neighbourhoods.names import GROUPS, NUMBER, REFERENCES, accuracy_name, read
from midas.analysis.results import load_number
from midas.analysis.tables.presentation import Block, Column, Table, write
from midas.analysis.tables.runs import BLANK
from midas.analysis.tables.wording import same_function_note
from midas.config.further.neighbourhoods import Neighbourhoods
from midas.plan.further.neighbourhoods import folder
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.step import main

ONE_CELL = "one cell: no spread"
DISTANCES = (1, 2, 3)
KINDS = ("drop", "drop_std", "change", "change_std")
SHOWN = {
    **{f"drop_{r}": f"Drop at {r}" for r in DISTANCES},
    **{f"change_{r}": f"Change at {r}" for r in DISTANCES},
    "barrier": "Barrier",
}
"""Quantity -> heading."""
NEAR = [Column("Own (%)", "accuracy"), *(Column(title, name) for name, title in SHOWN.items())]
COMPARED = [Column(title, name, "interval", signed=True) for name, title in SHOWN.items()]
COMPARED += [Column("Accuracy gap", "accuracy_gap", signed=True)]


def neighbourhoods(plan: Plan) -> Table:
    """The table.

    Raises:
        ValueError: the configuration doesn't ask for it, or a file is missing, damaged or lacks a column or a number.
    """
    tests, source = read(
        plan, "tests", ("reference", "measure", "radius", "difference", "low", "high", "p_value", "accuracy_gap")
    )
    settings = plan.config.neighbourhoods
    assert settings is not None  # else `read` had said so
    keys = {"measure": "Accuracy", "other": "Against", "n": "Cells"}
    less = (
        "less other cells of the nearest accuracies (percentage points; negative: the found cells lie in flatter "
        "surroundings, of a drop: in better ones), with 95 % intervals of the permutation test"
    )
    every = pd.DataFrame(_compared(tests[tests["method"] == ""], source))
    first = tests["accuracy"] == settings.accuracies[0]
    each = pd.DataFrame(_compared(tests[first & (tests["method"] != "")], source))
    near = pd.DataFrame(_near(plan))
    blocks = [
        Block("Surroundings", {"measure": "Accuracy", "group": "Cells", "n": "n"}, NEAR, near),
        Block(f"All found cells {less}", keys, COMPARED, every),
        Block(f"Cells that one method found {less}", {"method": "Method", **keys}, COMPARED, each),
    ]
    return Table(NUMBER, _caption(plan), blocks, _notes(plan, settings))


def _counted(plan: Plan, key: str) -> int:
    return int(load_number(folder(plan) / "metrics.json", key))


def _caption(plan: Plan) -> str:
    config = plan.config
    return (
        "How accurate the cells of NAS-Bench-201 are that lie near the found ones, from the benchmark's table (200 epochs, "
        f"mean of its seeds). Size {config.size} ({config.note}); seeds {', '.join(map(str, config.seeds))}. Searches: "
        f"{_counted(plan, 'searches')}; different cells that they found: {_counted(plan, 'found_cells')}, with "
        f"\u201cnone\u201d: {_counted(plan, 'found_with_none')}. Mean ± sample standard deviation over cells."
    )


def _notes(plan: Plan, settings: Neighbourhoods) -> list[str]:
    return [
        "Drop at r: a cell's accuracy less the mean accuracy of all cells that differ from it on r of the six edges (24, 240 "
        "and 1,280 cells), in percentage points. Over all cells of the benchmark its mean is 0, since each is near as many. "
        "Change at r: the mean absolute difference to these.",
        "Barrier: how far the lowest step of the shortest paths lies below the mean of their ends; paths lead to the "
        f"{_counted(plan, 'ends')} cells at distance 3 whose accuracies are nearest to the cell's own, a step is the mean over "
        "the 3! paths. A2M's measure (arXiv 2503.10404), with the path's end where its code takes the step after the start.",
        f"Same accuracy, not found: for each found cell the {settings.matched_cells} cells that no search found whose "
        "accuracies are nearest to its own, among all cells, or among those without \u201cnone\u201d, since many methods "
        "decode no others.",
        "Accuracy gap: mean accuracy of the matched cells less that of the found ones. It goes into a drop one to one, so a "
        "drop says nothing of the surroundings where the gap isn't small beside it; near the best cell all others are worse. "
        "Matched cells count as often as they are matched; those without “none” stand beside found cells without it.",
        f"Permutation test ({settings.draws:,} draws): which member of the set of a found cell and its matched ones is called "
        "found. It speaks of these cells, takes them as independent, and is not corrected for the number of tests; p-values "
        "stand in the csv file. Single methods with other accuracies: neighbourhoods/tests.csv.",
        "The table of the benchmark was read after the searches: no search, choice or decoding knows it.",
        same_function_note(),
    ]


def _near(plan: Plan) -> Iterator[dict[str, Any]]:
    """Own accuracy, drops and barrier of each group."""
    curves, source = read(plan, "curves", ("group", "cells", "radius", "mean", *KINDS))
    paths, other = read(plan, "paths", ("group", "cells", "step", "barrier", "barrier_std"))
    for accuracy in dict.fromkeys(curves["accuracy"]):
        for group, title in GROUPS.items():
            chosen = [
                (t["accuracy"] == accuracy) & (t["group"] == group) & (t["method"] == "") for t in (curves, paths)
            ]
            by_radius = curves[chosen[0]].set_index("radius")
            about = {**BLANK, "measure": accuracy_name(accuracy), "group": title, "n": int(by_radius.loc[0, "cells"])}
            missing = ONE_CELL if about["n"] == 1 else ""
            yield {**about, "quantity": "accuracy", "mean": by_radius.loc[0, "mean"], "source": source.as_posix()}
            for name in (name for name in SHOWN if name != "barrier"):
                kind, _, r = name.partition("_")
                at = by_radius.loc[int(r)]
                values = {"mean": at[kind], "std": at[f"{kind}_std"], "missing": missing}
                yield {**about, "quantity": name, **values, "source": source.as_posix()}
            first = paths[chosen[1]].iloc[0]
            barrier = {"mean": first["barrier"], "std": first["barrier_std"], "missing": missing}
            yield {**about, "quantity": "barrier", **barrier, "source": other.as_posix()}


def _compared(tests: pd.DataFrame, source: Path) -> Iterator[dict[str, Any]]:
    """Differences to the cells of the same accuracy."""
    for row in tests.to_dict("records"):
        name = row["measure"] if row["measure"] == "barrier" else f"{row['measure']}_{row['radius']}"
        about = {
            **BLANK,
            "measure": accuracy_name(row["accuracy"]),
            "other": REFERENCES[row["reference"]],
            "method": row["method"],
            "n": row["cells"],
            "source": source.as_posix(),
        }
        ends = {"low": row["low"], "high": row["high"], "interval": row["interval"]}
        judged = {"p_value": row["p_value"], "verdict": row["verdict"]}
        yield {**about, "quantity": name, "mean": row["difference"], **ends, **judged}
        if name == "barrier":  # the last of a comparison
            yield {**about, "quantity": "accuracy_gap", "mean": row["accuracy_gap"]}


def make(run: PresentRun, target: Path) -> None:
    """Write the table's files."""
    write(neighbourhoods(Plan(run.config)), target)


if __name__ == "__main__":
    main(PresentRun, make)
