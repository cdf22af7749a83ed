"""Figure 3, whether the weights are unimodal over the images (from dip.csv, metrics.json and arch.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from midas.analysis.dumps import load_dump
from midas.analysis.figures.style import COLOURS, WIDTH, node_label, operation_label, panel_label
from midas.analysis.results import load_metrics, load_table
from midas.analysis.statistics.dip import LEVEL, MOST_TABULATED
from midas.plan.plan import Plan
from midas.spaces import get_space


def dip(plan: Plan) -> Figure:
    """Left the p-values of all dip tests, right the distribution of one weight.

    Raises:
        ValueError: dip.csv, metrics.json or the dump is missing or damaged, or no weight was tested.
    """
    chosen = plan.config.analysis
    assert chosen is not None  # the dispatcher offers this figure only then
    path = plan.root / "analysis/dip.csv"
    table = load_table(path, ("seed", "cell", "edge", "source", "target", "operation", "images", "p_value"))
    first = table[table["seed"] == plan.config.seeds[0]]
    if first.empty:
        raise ValueError(f"{path}: holds no test for seed {plan.config.seeds[0]}; all its weights are constant")
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_p_values(left, table, _verdict(plan.root / "analysis/metrics.json"))
    row = median_test(first)
    dump = load_dump(plan.folder(chosen.space, chosen.dataset, chosen.method, plan.config.seeds[0]) / "search/arch.npz")
    place = row["cell"], row["edge"], dump.operations.index(row["operation"])
    _draw_weight(right, dump.p[:, *place], float(dump.mean[place]), row, get_space(chosen.space).family)
    return figure


def median_test(tests: pd.DataFrame) -> pd.Series:
    """The test whose p-value is the (lower) median; of equal ones the first by cell, edge and operation.

    A rule instead of a choice: the weight shown is a typical one.
    """
    return tests.sort_values(["p_value", "cell", "edge", "operation"]).iloc[(len(tests) - 1) // 2]


def _verdict(path: Path) -> str:
    """What the tests of all searches say, in words."""
    keys = ("tested", "rejected", "expected_by_chance", "rejected_benjamini_hochberg")
    try:
        rows = load_metrics(path)["dip"]
        tested, rejected, expected, corrected = (sum(row[key] or 0 for row in rows) for key in keys)
        images = rows[0]["images"]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: holds no summary of the dip tests: {error}") from error
    searches = f", {len(rows)} searches" if len(rows) > 1 else ""
    approximate = f"\n(p-values of {MOST_TABULATED:,} images: the table ends there)" if images > MOST_TABULATED else ""
    return (
        f"rejected: {rejected:,} of {tested:,}\nexpected by chance: at most {expected:,.0f}\n"
        f"after Benjamini-Hochberg: {corrected:,}\n({images:,} images{searches}){approximate}"
    )


def _draw_p_values(ax: Axes, table: pd.DataFrame, verdict: str) -> None:
    counts, edges = np.histogram(table["p_value"], bins=20, range=(0, 1))
    colours = ["#D55E00" if edge < LEVEL else "#A9A9A9" for edge in edges[:-1]]
    ax.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.4)
    ax.axvline(LEVEL, color="black", linewidth=0.9, linestyle="--")
    ax.text(LEVEL + 0.025, 0.97, verdict, transform=ax.get_xaxis_transform(), va="top", fontsize=7)
    ax.set(xlim=(0, 1), ylim=(0, max(counts) * 1.4), xlabel="p-value of the dip test", ylabel="weights")
    panel_label(ax, "a", f"all weights, rejected below {LEVEL}")


def _draw_weight(ax: Axes, values: np.ndarray, mean: float, row: pd.Series, family: str) -> None:
    ax.hist(values, bins=40, color=COLOURS[row["operation"]], edgecolor="white", linewidth=0.3)
    ax.axvline(mean, color="black", linewidth=0.9, linestyle="--")
    edge = f"{node_label(family, row['source'])} → {node_label(family, row['target'])}"
    ax.margins(y=0.25)
    text = f"mean {mean:.4f}\np-value {row['p_value']:.3f}"
    text += "" if len(values) == row["images"] else f"\n({len(values):,} images shown)"
    x, side = (0.02, "left") if 2 * mean > sum(ax.get_xlim()) else (0.98, "right")  # away from the bulk
    ax.text(x, 0.97, text, transform=ax.transAxes, va="top", ha=side, fontsize=7)
    name = operation_label(row["operation"])
    ax.set_xlabel(f"weight of {name} on edge {edge}, cell {row['cell']}", parse_math=True)
    ax.set_ylabel("images")
    ax.locator_params(axis="x", nbins=5)
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    panel_label(ax, "b", "the weight with the median p-value")
