"""Figure S2: ``python -m midas.analysis.neighbourhoods.figure RUN FOLDER`` writes figure_s2.pdf and figure_s2.png."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from midas.analysis.figures import style
from midas.analysis.figures.style import METHOD_COLOURS, METHOD_MARKERS, WIDTH, panel_label
from midas.analysis.neighbourhoods.names import GROUPS, NUMBER, accuracy_name, read
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.step import main

SHOWN = ("found", "matched_every", "matched_without_none", "best")
LOOKS = {
    **{group: (METHOD_COLOURS[place], METHOD_MARKERS[place]) for place, group in enumerate(SHOWN)},
    "random": (style.GREY, "v"),
}
"""Colour and marker of each group, in the order of the legend."""
BANDS = ("found", "matched_every")
"""Groups whose quartiles are drawn; more would cover each other."""
ALPHA = 0.15
HEIGHT = 2.1
"""Of a row of panels, in inches."""


def neighbourhoods(plan: Plan) -> Figure:
    """A row for each accuracy: against the distance from a cell (left); along shortest paths, less that of their ends (right).

    Raises:
        ValueError: a file is missing, damaged or lacks a column.
    """
    curves, _ = read(plan, "curves", ("group", "radius", "mean", "q25", "q75"))
    paths, _ = read(plan, "paths", ("group", "step", "mean"))
    accuracies = list(dict.fromkeys(curves["accuracy"]))
    figure = Figure(figsize=(WIDTH, HEIGHT * len(accuracies) + 0.7), layout="constrained")
    axes = figure.subplots(len(accuracies), 2, squeeze=False)
    letters = iter(ascii_lowercase)
    for (left, right), accuracy in zip(axes, accuracies, strict=True):
        for group in LOOKS:
            near, along = (
                table[(table["accuracy"] == accuracy) & (table["group"] == group) & (table["method"] == "")]
                for table in (curves, paths)
            )
            _draw(left, near, "radius", group in BANDS)
            _draw(right, along.assign(mean=along["mean"] - along["mean"].iloc[[0, -1]].mean()), "step")
        for ax in (left, right):
            ax.set_xticks(range(4))
        left.set_ylabel("accuracy (%)")
        right.set_ylabel("accuracy less the ends' (points)")
        name = accuracy_name(accuracy)
        panel_label(left, next(letters), f"{name}: cells around a cell")
        panel_label(right, next(letters), f"{name}: on shortest paths")
    axes[-1, 0].set_xlabel("distance: edges with another operation")
    axes[-1, 1].set_xlabel("step of the path to a cell of similar accuracy")
    handles = [*map(_handle, LOOKS), Patch(color=style.GREY, alpha=2 * ALPHA, linewidth=0, label="quartiles")]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6, columnspacing=1.0)
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, place: str, band: bool = False) -> None:
    """The means of a group, and its quartiles if they are asked for."""
    rows = rows.sort_values(place)
    colour, marker = LOOKS[rows["group"].iloc[0]]
    if band:
        ax.fill_between(rows[place], rows["q25"], rows["q75"], color=colour, alpha=ALPHA, linewidth=0)
    ax.plot(rows[place], rows["mean"], color=colour, marker=marker, markersize=3.5)


def _handle(group: str) -> Line2D:
    colour, marker = LOOKS[group]
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5}
    return Line2D([], [], **look, label=GROUPS[group])


def draw(run: PresentRun, folder: Path) -> None:
    """Write the figure's files."""
    with matplotlib.rc_context(style.RC):
        figure = neighbourhoods(Plan(run.config))
        style.add_note(figure, run.config)
        style.save(figure, folder, NUMBER)


if __name__ == "__main__":
    main(PresentRun, draw)
