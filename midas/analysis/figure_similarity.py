"""Figure 4, whether classes that mean similar things get similar weights (from similarity.csv)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from midas.analysis.dumps import load_table
from midas.analysis.style import WIDTH, panel_label
from midas.plan import Plan

MOST_NAMES = 25
"""More classes than this are not named along the axes."""


def class_similarity(plan: Plan) -> Figure:
    """Cosine between the classes' mean weights, raw and centred, averaged over the seeds.

    Classes stand in the data set's order.

    Raises:
        ValueError: similarity.csv is missing.
    """
    table = load_table(
        plan.root / "analysis/similarity.csv", ("seed", "class_a", "class_b", "cosine", "cosine_centred")
    )
    table = table.astype({"class_a": str, "class_b": str})
    raw, centred = (_matrix(table, column) for column in ("cosine", "cosine_centred"))
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    others = raw.to_numpy()[~np.eye(len(raw), dtype=bool)]
    # the diagonal is 1 by definition; with it the scale would have no room for the differences between classes
    _draw(left, raw, {"cmap": "viridis", "vmin": others.min(), "vmax": others.max()}, "cosine")
    _draw(right, centred, {"cmap": "PuOr_r", "vmin": -1, "vmax": 1}, "cosine of differences from the mean")
    panel_label(left, "a", "mean weights")
    panel_label(right, "b", "mean weights less their mean over classes")
    return figure


def _matrix(table: pd.DataFrame, column: str) -> pd.DataFrame:
    names = list(dict.fromkeys(table["class_a"]))
    return table.pivot_table(index="class_a", columns="class_b", values=column, aggfunc="mean").loc[names, names]


def _draw(ax: Axes, matrix: pd.DataFrame, scale: dict[str, Any], label: str) -> None:
    named = len(matrix) <= MOST_NAMES
    diagonal = np.eye(len(matrix), dtype=bool)
    sns.heatmap(
        matrix, ax=ax, mask=diagonal, square=True, xticklabels=named, yticklabels=named, linewidths=0.3 if named else 0,
        cbar_kws={"label": label, "fraction": 0.046, "pad": 0.02}, **scale,
    )  # fmt: skip
    bar = ax.collections[0].colorbar
    assert bar is not None
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    ax.tick_params(length=0)
    names = "" if named else f"{len(matrix)} classes"
    ax.set(xlabel=names, ylabel=names)
    if named:
        ax.set_xticklabels(ax.get_xticklabels(), rotation=90)
        ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
