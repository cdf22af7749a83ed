"""Figures 2 and 5: how much weight operations get, and how much it differs between images (weights.csv)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from midas.analysis.figures.style import COLOURS, GREY, WIDTH, operation_label, panel_label
from midas.analysis.results import load_table
from midas.plan.plan import Plan

FIRST_CELLS = 2


def load_weights(plan: Plan) -> pd.DataFrame:
    """Read weights.csv.

    Raises:
        ValueError: the file is missing or lacks a column.
    """
    columns = ("method", "seed", "cell", "kind", "operation", "share", "uniform", "std")
    return load_table(plan.root / "analysis/weights.csv", columns)


def mean_weights(plan: Plan) -> Figure:
    """Figure 2: each operation's share of an edge's weight in the first two cells, method by method.

    Raises:
        ValueError: weights.csv is missing.
    """
    chosen = plan.config.analysis
    assert chosen is not None  # the dispatcher offers this figure only then
    table = load_weights(plan)
    table = table[table["method"].isin(chosen.compare) & (table["cell"] < FIRST_CELLS)]
    operations = list(dict.fromkeys(table["operation"]))
    shape = FIRST_CELLS, len(chosen.compare)
    figure = Figure(figsize=(WIDTH, 0.75 + FIRST_CELLS * (0.2 * len(operations) + 0.25)), layout="constrained")
    axes = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        method = chosen.compare[column]
        part = table[(table["cell"] == row) & (table["method"] == method)]
        _draw_shares(ax, part, operations)
        patches = f"PS {plan.config.methods[method].patch_size or 'none'}"
        panel_label(ax, "abcdefghijklmnopqrstuvwxyz"[row * shape[1] + column], f"{method}, {patches}")
        if column == 0:
            kind = part["kind"].iloc[0]
            ax.set_ylabel(f"cell {row}" + (f" ({kind})" if table["kind"].nunique() > 1 else ""))
    for ax in axes[-1]:
        ax.set_xlabel(
            "share of an edge's weight\n"
            + ("(dashed: uniform; open: seeds)" if shape[1] < 4 else "(dashed: uniform;\nopen: seeds)")
        )
        ax.locator_params(axis="x", nbins=4)  # shares near an equal weight need four decimals
    return figure


def _draw_shares(ax: Axes, part: pd.DataFrame, operations: list[str]) -> None:
    """A row for each operation: seeds as open circles, a line from the least to the greatest, their mean as a dot."""
    for y, name in enumerate(operations):
        rows = part[part["operation"] == name]
        share, colour = rows["share"].to_numpy(), COLOURS[name]
        ax.vlines(rows["uniform"].mean(), y - 0.5, y + 0.5, colors=GREY, linewidth=0.8, linestyles="--", zorder=1)
        ax.hlines(y, share.min(), share.max(), colors=colour, linewidth=1.2, zorder=2)
        ax.scatter(share, np.full(len(share), y), s=16, facecolors="white", edgecolors=colour, linewidths=0.9, zorder=3)
        ax.scatter(share.mean(), y, s=16, color=colour, zorder=4)
    ax.set_yticks(range(len(operations)), [operation_label(name) for name in operations])
    ax.set_ylim(len(operations) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#E6E6E6", linewidth=0.5)
    ax.set_axisbelow(True)


def spread_over_images(plan: Plan) -> Figure:
    """Figure 5: standard deviation of the weights over the images, averaged over edges, nodes and seeds.

    Raises:
        ValueError: weights.csv is missing.
    """
    chosen = plan.config.analysis
    assert chosen is not None  # the dispatcher offers this figure only then
    table = load_weights(plan)
    table = table[table["method"] == chosen.method]
    operations = list(dict.fromkeys(table["operation"]))
    grid = table.pivot_table(index="operation", columns="cell", values="std", aggfunc="mean").loc[operations]
    figure = Figure(figsize=(WIDTH, 0.85 + 0.24 * len(operations)), layout="constrained")
    ax = figure.subplots()
    power = int(np.floor(np.log10(grid.max().max()))) if grid.max().max() > 0 else 0
    scaled = grid / 10.0**power
    bar = {"label": f"std over images ($10^{{{power}}}$)", "fraction": 0.04, "pad": 0.01}
    style = {"annot_kws": {"fontsize": 7}, "linewidths": 0.5, "cmap": "viridis", "vmin": 0}
    sns.heatmap(scaled, ax=ax, annot=True, fmt=".2f" if grid.shape[1] <= 10 else ".1f", cbar_kws=bar, **style)
    drawn = ax.collections[0].colorbar
    assert drawn is not None
    drawn.ax.yaxis.label.set_parse_math(True)
    kinds = table.drop_duplicates("cell").set_index("cell")["kind"]
    names = [f"{cell}\n{kinds[cell]}" if kinds.nunique() > 1 else str(cell) for cell in grid.columns]
    ax.set_xticklabels(names, rotation=0)
    ax.set_yticklabels([operation_label(name) for name in operations], rotation=0)
    ax.set(xlabel="cell", ylabel="")
    ax.tick_params(length=0)
    return figure
