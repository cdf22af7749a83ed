"""Figure 12 of more methods than there are colours: a panel for each, and the final cells of all in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.scale import FuncScale
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from midas.analysis.figures.style import GREY, METHOD_COLOURS, WIDTH
from midas.analysis.results import load_number, load_table
from midas.config.keys import Experiment
from midas.plan.plan import Plan

COLUMNS = 4
PANEL, ROW = 1.15, 0.17
"""Heights in inches: of a row of panels, and of a method among the final cells."""
COLOUR = METHOD_COLOURS[0]
TICKS = (10, 50, 80, 90, 92, 94, 96, 98, 99)
"""Accuracies (%) that are named on an axis of errors."""


class Source:
    """Where the numbers of a drawing lie.

    Attributes:
        looked_up: whether cells are looked up in the benchmark, or retrained.
        curve: file and column of what is followed over the epochs.
        final: file and keys of what the final cell is worth.
    """

    def __init__(self, looked_up: bool):
        self.looked_up = looked_up
        self.curve = (
            ("lookup/history.csv", "c10_test_acc_200") if looked_up else ("search/history.csv", "valid_accuracy")
        )
        self.final = (
            ("lookup/metrics.json", "cell", "c10_test_acc_200")
            if looked_up
            else ("retrain/metrics.json", "test_accuracy")
        )

    def curves(self, folders: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        """Epochs, and accuracies [seeds, epochs] (percent): as far as all seeds went."""
        file, column = self.curve
        found = [load_table(folder / file, ("epoch", column)) for folder in folders]
        shortest = min(map(len, found))
        return found[0]["epoch"].to_numpy()[:shortest], np.stack([x[column].to_numpy()[:shortest] for x in found])

    def finals(self, folders: Sequence[Path]) -> list[float]:
        """Test accuracy of each seed's final cell (percent)."""
        file, *keys = self.final
        return [load_number(folder / file, *keys) for folder in folders]


def heights(experiment: Experiment, plan: Plan) -> tuple[float, float]:
    """Inches that the panels and the final cells take."""
    searched = [method for method in experiment.methods if not plan.is_unsearched(method)]
    return PANEL * max(1, -(-len(searched) // COLUMNS)) + 0.35, ROW * len(experiment.methods) + 0.55


def draw(figure: SubFigure, plan: Plan, experiment: Experiment, looked_up: bool) -> None:
    """Panels of the searched methods, each with its mean over seeds, and the final cells of all methods below.

    Raises:
        ValueError: a history or metrics file is missing or lacks a value.
    """
    source = Source(looked_up)
    folders = {
        method: [plan.folder(experiment.space, experiment.dataset, method, seed) for seed in plan.config.seeds]
        for method in experiment.methods
    }
    searched = [method for method in experiment.methods if not plan.is_unsearched(method)]
    upper, lower = np.ravel(np.asarray(figure.subfigures(2, height_ratios=heights(experiment, plan))))
    panels = upper.subplots(
        max(1, -(-len(searched) // COLUMNS)), COLUMNS, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for ax, method in zip(panels, searched, strict=False):
        _draw_curves(ax, *source.curves(folders[method]))
        ax.set_title(method, fontsize=7, pad=2)
    for ax in panels[len(searched) :]:
        ax.remove()
    for ax in panels[max(0, len(searched) - COLUMNS) : len(searched)]:
        ax.tick_params(labelbottom=True)
    ax = lower.subplots()
    _draw_finals(ax, {method: source.finals(found) for method, found in folders.items()})
    what = (
        "CIFAR-10 test accuracy of\nthe decoded cell, looked up"
        if looked_up
        else "accuracy of the supernet\non validation images"
    )
    upper.supylabel(f"{what} (%)", fontsize=8)
    upper.supxlabel("epoch of the search (grey: seeds, blue: their mean)", fontsize=8)
    ax.set_xlabel(
        f"test accuracy of the final cell, {'looked up' if looked_up else 'retrained'} (%; circles: seeds, strokes: means)"
    )
    if looked_up:
        first = next(iter(folders.values()))[0]
        best = load_number(first / "lookup/metrics.json", "benchmark", source.curve[1], "best")
        for place in panels[: len(searched)]:
            place.axhline(best, color="black", linewidth=0.6, linestyle="--", zorder=1)
        if searched:
            _by_error(panels[0], "y", best)  # they share it
        ax.axvline(best, color="black", linewidth=0.8, linestyle="--", zorder=1)
        ax.annotate(f"optimum of the benchmark {best:.2f}", (best, 1), (-3, 2), ax.get_xaxis_transform(),
                    "offset points", fontsize=7, ha="right")  # fmt: skip
        _by_error(ax, "x", best)


def _draw_curves(ax: Axes, epochs: np.ndarray, values: np.ndarray) -> None:
    """Seeds thin, their mean thick."""
    for line in values:
        ax.plot(epochs, line, color=GREY, linewidth=0.5, alpha=0.7, drawstyle="steps-mid")
    ax.plot(epochs, values.mean(0), color=COLOUR, linewidth=1.5)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.margins(x=0.02)


def _draw_finals(ax: Axes, found: dict[str, list[float]]) -> None:
    """A row for each method: its seeds, and their mean as a stroke."""
    for row, values in enumerate(found.values()):
        ax.plot(values, [row] * len(values), "o", color=COLOUR, markerfacecolor="white", markersize=4, clip_on=False)
        ax.plot([np.mean(values)], [row], "|", color="black", markersize=9, markeredgewidth=1.4)
    ax.set(yticks=range(len(found)), yticklabels=list(found), ylim=(len(found) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.5)
    ax.set_axisbelow(True)


def _by_error(ax: Axes, axis: str, best: float) -> None:
    """Space accuracies as their errors on a logarithmic scale: good cells differ by tenths, bad ones by tens."""
    low, high = (ax.get_ylim if axis == "y" else ax.get_xlim)()
    low, high = max(0.0, low), min(best + 0.3, max(high, best))
    scale = FuncScale(
        ax.yaxis if axis == "y" else ax.xaxis,
        (lambda x: -np.log(np.maximum(100.5 - np.asarray(x, float), 1e-3)), lambda y: 100.5 - np.exp(-np.asarray(y))),
    )
    ticks = [tick for tick in TICKS if low <= tick <= high]
    getattr(ax, f"set_{axis}scale")(scale)
    getattr(ax, f"set_{axis}lim")(low, high)
    own = ax.yaxis if axis == "y" else ax.xaxis
    own.set_major_locator(FixedLocator(ticks))
    own.set_major_formatter(FixedFormatter([str(tick) for tick in ticks]))
    own.set_minor_locator(NullLocator())


def size(plan: Plan, experiments: Sequence[Experiment]) -> tuple[float, float]:
    """Width and height of a figure of some experiments, in inches."""
    return WIDTH, sum(sum(heights(experiment, plan)) for experiment in experiments) + 0.3


def many(plan: Plan, experiments: Sequence[Experiment], looked_up: bool) -> Figure:
    """The figure, an experiment below the other."""
    figure = Figure(figsize=size(plan, experiments), layout="constrained")
    ratios = [sum(heights(experiment, plan)) for experiment in experiments]
    parts = np.ravel(np.asarray(figure.subfigures(len(experiments), 1, height_ratios=ratios)))
    for part, experiment in zip(parts, experiments, strict=True):
        if len(experiments) > 1:
            part.suptitle(f"search on {experiment.dataset}", fontsize=8, x=0.01, ha="left")
        draw(part, plan, experiment, looked_up)
    return figure
