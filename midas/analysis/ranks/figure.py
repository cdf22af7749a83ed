"""Figure S1: ranks of methods, and how alike rankings are; ``python -m midas.analysis.ranks.figure RUN FOLDER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from midas.analysis.figures import style
from midas.analysis.ranks.numbers import Ranked, ranked
from midas.analysis.statistics.ranks import agreement, interval, mean, of_pairs
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.step import main

NUMBER = "S1"
MOST_NUMBERS = 10
"""Rows or columns of a matrix in whose fields numbers are written."""
FEW = 5
"""Names in a matrix up to which two decimals fit."""


def figure(plan: Plan) -> Figure:
    """Ranks of the methods, correlations between settings and between benchmarks.

    Raises:
        ValueError: a metrics file is missing or lacks the number.
    """
    found = ranked(plan)
    agreed = agreement(found.accuracy)
    benchmarks, settings, methods = agreed.ranks.shape
    height = 1.2 + 0.18 * methods + max(1.6, 0.2 * max(benchmarks, settings)) + 1.2
    drawn = plt.figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = drawn.add_gridspec(2, 2, height_ratios=[1.0 + 0.18 * methods, 2.2 + 0.15 * max(benchmarks, settings)])
    _draw_ranks(drawn.add_subplot(grid[0, :]), found, agreed.ranks)
    parts = [
        (found.settings, agreed.settings, agreed.drawn_settings, "retraining settings"),
        (found.labels, agreed.benchmarks, agreed.drawn_benchmarks, "benchmarks"),
    ]
    shown = [part for part in parts if len(part[0]) > 1]  # of a single one there is nothing to compare
    for place, (names, matrices, draws, what) in enumerate(shown):
        ax = drawn.add_subplot(grid[1, place])
        letter, whole = "bc"[place], mean(of_pairs(matrices), -1)
        _draw_matrix(ax, names, mean(matrices, 0), what, letter, whole, mean(of_pairs(draws), -1))
    return drawn


def _draw_ranks(ax: Axes, found: Ranked, ranks: np.ndarray) -> None:
    """A row for each method, a column for each benchmark and setting."""
    benchmarks, settings, methods = ranks.shape
    table = ranks.reshape(benchmarks * settings, methods).T
    image = ax.imshow(table, aspect="auto", cmap="viridis_r", vmin=1, vmax=methods, interpolation="nearest")
    ax.set_yticks(range(methods), found.methods)
    places = [settings * b + (settings - 1) / 2 for b in range(benchmarks)]
    ax.set_xticks(
        places, found.labels, rotation=25 if benchmarks > 4 else 0, ha="right" if benchmarks > 4 else "center"
    )
    ax.tick_params(length=0)
    for b in range(1, benchmarks):
        ax.axvline(settings * b - 0.5, color="white", linewidth=1.5)
    ax.figure.colorbar(image, ax=ax, label="rank (1: best)", ticks=sorted({1, methods}), pad=0.01)
    order = f"; in each, from left: {', '.join(found.settings)}" if settings > 1 else ""
    style.panel_label(ax, "a", f"rank of the mean test accuracy{order}")


def _draw_matrix(
    ax: Axes, names: list[str], matrix: np.ndarray, what: str, letter: str, whole: np.ndarray, drawn: np.ndarray
) -> None:
    """Correlations of all pairs; the mean over them and its interval below."""
    image = ax.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    for i, j in np.argwhere(~np.isnan(matrix)) if len(names) <= MOST_NUMBERS else ():
        colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
        ax.text(
            j,
            i,
            f"{matrix[i, j]:.{2 if len(names) <= FEW else 1}f}".replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="center",
            fontsize=4.5,
            color=colour,
        )
    low, high = interval(drawn)
    text = "nothing to compare" if np.isnan(whole) else f"mean over pairs {whole:.2f}"
    text += "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    ax.set_xlabel(text.replace("-", "\N{MINUS SIGN}"))
    ax.figure.colorbar(image, ax=ax, label="Spearman's correlation", fraction=0.046, pad=0.02)
    style.panel_label(ax, letter, f"rankings under two {what}")


def draw(run: PresentRun, folder: Path) -> None:
    """Draw the figure."""
    with matplotlib.rc_context(style.RC):
        drawn = figure(Plan(run.config))
        style.add_note(drawn, run.config)
        style.save(drawn, folder, NUMBER)


if __name__ == "__main__":
    main(PresentRun, draw)
