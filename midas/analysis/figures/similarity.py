"""Figure 4, whether classes that mean similar things get similar weights (from similarity.csv and metrics.json)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from midas.analysis.figures.style import WIDTH, panel_label
from midas.analysis.results import load_metrics, load_table
from midas.analysis.statistics.dip import LEVEL
from midas.images.listing import few
from midas.plan.plan import Plan

MOST_NAMES = 25
"""More classes than this are not named along the axes."""


def class_similarity(plan: Plan) -> Figure:
    """Cosine between the classes' mean weights, raw and centred, averaged over the seeds, with what the tests say.

    Classes stand in the order of the configured groups, the others after them in the data set's order.

    Raises:
        ValueError: similarity.csv or metrics.json is missing or damaged.
    """
    chosen = plan.config.analysis
    assert chosen is not None  # the dispatcher offers this figure only then
    table = load_table(
        plan.root / "analysis/similarity.csv", ("seed", "class_a", "class_b", "cosine", "cosine_centred")
    )
    raw, centred = (_matrix(table, column, chosen.groups) for column in ("cosine", "cosine_centred"))
    path = plan.root / "analysis/metrics.json"
    try:
        effect, groups = (say(load_metrics(path)) for say in (_class_effect, _groups))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: holds no tests of the classes: {error}") from error
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    # the diagonal is 1 by definition; with it the scale would have no room for the differences between classes
    others = raw.mask(np.eye(len(raw), dtype=bool)).stack().dropna()
    scale = {"vmin": others.min(), "vmax": others.max()} if len(others) else {"vmin": 0, "vmax": 1}
    _draw(left, raw, {"cmap": "viridis", **scale}, "cosine", effect)
    _draw(right, centred, {"cmap": "PuOr_r", "vmin": -1, "vmax": 1}, "cosine of differences from the mean", groups)
    _draw_groups((left, right), raw.index.tolist(), chosen.groups)
    panel_label(left, "a", "mean weights")
    panel_label(right, "b", "mean weights less their mean over classes")
    return figure


def _class_effect(metrics: dict[str, Any]) -> str:
    """How much of the variance over images the class explains, over the searches."""
    found = [row for row in metrics["class_effect"] if row["p_value"] is not None]
    if not found:
        return "no weight differs between images"
    shares = dict.fromkeys(f"{100 * share(row['eta_squared'] for row in found):.1f}" for share in (min, max))
    chance = 100 * max(row["expected_by_chance"] for row in found)
    text = f"class explains {' to '.join(shares)} % of the variance\n(chance: {chance:.2f} %)"
    return f"{text}, {_significance(max(row['p_value'] for row in found), len(found))}"


def _groups(metrics: dict[str, Any]) -> str:
    """By how much classes of one group are more similar than others."""
    test = metrics["groups"]
    if test is None:
        return ""
    if test["p_value"] is None:
        return f"{' / '.join(test['names'])}: not testable"
    text = f"{' / '.join(test['names'])}: within \N{MINUS SIGN} between = {test['difference']:.2f}"
    return f"{text}\n{_significance(test['p_value'])}"


def _significance(p_value: float, searches: int = 1) -> str:
    """A permutation test in words; of several searches the largest p-value."""
    sign = "=" if searches == 1 else "\N{LESS-THAN OR EQUAL TO}"
    return f"permutation p {sign} {p_value:.3f}" + (", not significant" if p_value >= LEVEL else "")


def _matrix(table: pd.DataFrame, column: str, groups: dict[str, list[str]]) -> pd.DataFrame:
    known = dict.fromkeys(table["class_a"])
    grouped = [name for members in groups.values() for name in members if name in known]
    names = list(dict.fromkeys([*grouped, *known]))
    matrix = table.pivot_table(index="class_a", columns="class_b", values=column, aggfunc="mean", dropna=False)
    return matrix.loc[names, names]


def _undefined(matrix: pd.DataFrame) -> str:
    """Which classes have no similarity to any other, in words; empty where there is none."""
    others = matrix.mask(np.eye(len(matrix), dtype=bool))
    names = matrix.index[others.isna().all(axis=1)].tolist()
    return f"undefined: {few(names)}" if names else ""


def _draw_groups(axes: tuple[Axes, Axes], names: list[str], groups: dict[str, list[str]]) -> None:
    """Frame the blocks of classes that belong together."""
    for members in groups.values():
        places = [names.index(name) for name in members if name in names]
        for ax in axes if places else ():
            corner = min(places), min(places)
            frame = Rectangle(corner, len(places), len(places), fill=False, edgecolor="black", linewidth=1.0)
            frame.set_clip_on(False)
            ax.add_patch(frame)


def _draw(ax: Axes, matrix: pd.DataFrame, scale: dict[str, Any], label: str, verdict: str) -> None:
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
    ax.set_xlabel("\n".join(filter(None, (names, verdict, _undefined(matrix)))), fontsize=7)
    ax.set_ylabel(names)
    if named:
        ax.set_xticklabels(ax.get_xticklabels(), rotation=90)
        ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
