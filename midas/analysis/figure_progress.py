"""Figure 12: what the decoded NAS-Bench-201 cell is worth as the search goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from midas.analysis.dumps import load_number, load_table
from midas.analysis.style import GREY, METHOD_COLOURS, METHOD_MARKERS, WIDTH, panel_label
from midas.config import Experiment
from midas.plan import Plan

SPACE = "nas_bench_201"
ACCURACY = "c10_test_acc_200"


def progress(plan: Plan) -> Figure:
    """Accuracy against epoch, a line for each seed.

    With the benchmark's table: its CIFAR-10 test accuracy of the cell decoded at each epoch. Without: the supernet's
    validation accuracy, with marks where the decoded cell changes, and the test accuracy of the retrained final cell.

    Raises:
        ValueError: a history or metrics file is missing or lacks a value.
    """
    experiments = [e for e in plan.config.experiments if e.space == SPACE]
    looked_up = plan.evaluation(SPACE) == "lookup"
    figure = Figure(figsize=(WIDTH, 2.4 * len(experiments) + 0.6), layout="constrained")
    columns = {"ncols": 1} if looked_up else {"ncols": 2, "width_ratios": [9, 1]}
    axes = figure.subplots(len(experiments), sharey="row", squeeze=False, **columns)
    for row, experiment, letter in zip(axes, experiments, "abcdefgh", strict=False):
        if looked_up:
            _draw_looked_up(row[0], plan, experiment)
        else:
            _draw_supernet(row[0], plan, experiment)
            _draw_retrained(row[1], plan, experiment)
        row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set_xlabel("epoch of the search" + (f" on {experiment.dataset}" if len(experiments) > 1 else ""))
        if len(experiments) > 1:
            panel_label(row[0], letter, experiment.dataset)
    _legend(figure, plan, experiments, looked_up)
    return figure


def _runs(plan: Plan, experiment: Experiment, searched: bool = False) -> Iterator[tuple[str, str, Path]]:
    """Colour, marker and folder of each evaluated cell, those that were searched for alone if asked for."""
    for method in experiment.methods:
        if searched and plan.is_random(method):
            continue
        for seed in plan.config.seeds:
            yield *_look(plan, method), plan.folder(SPACE, experiment.dataset, method, seed)


def _look(plan: Plan, method: str) -> tuple[str, str]:
    """Colour and marker of a method: its place among all methods of the configuration."""
    place = list(plan.config.methods).index(method) % len(METHOD_COLOURS)
    return METHOD_COLOURS[place], METHOD_MARKERS[place]


def _draw_looked_up(ax: Axes, plan: Plan, experiment: Experiment) -> None:
    optima = set()
    for colour, marker, folder in _runs(plan, experiment):
        history = load_table(folder / "lookup/history.csv", ("epoch", ACCURACY))
        optima.add(load_number(folder / "lookup/metrics.json", "benchmark", ACCURACY, "best"))
        style: dict[str, Any] = {"marker": marker, "markersize": 4, "markevery": [len(history) - 1], "clip_on": False}
        # steps: there is one cell at each epoch, and none between two
        ax.plot(history["epoch"], history[ACCURACY], color=colour, alpha=0.8, drawstyle="steps-post", **style)
    for optimum in optima:
        ax.axhline(optimum, color="black", linewidth=0.8, linestyle="--", zorder=1)
        text = f"optimum of the benchmark {optimum:.2f}"
        ax.annotate(text, (0.005, optimum), (0, 2), ax.get_yaxis_transform(), "offset points", fontsize=7)
    ax.set_ylabel("CIFAR-10 test accuracy of the decoded\ncell, looked up in the benchmark (%)")
    ax.margins(x=0.01, y=0.08)


def _draw_supernet(ax: Axes, plan: Plan, experiment: Experiment) -> None:
    for colour, marker, folder in _runs(plan, experiment, searched=True):
        history = load_table(folder / "search/history.csv", ("epoch", "valid_accuracy", "genotype"))
        cells = history["genotype"]
        changed = history[(cells != cells.shift()) & cells.shift().notna()]
        ax.plot(history["epoch"], history["valid_accuracy"], color=colour, alpha=0.8)
        ax.plot(changed["epoch"], changed["valid_accuracy"], marker, color=colour, markersize=3.5, alpha=0.8)
    ax.set_ylabel("accuracy of the supernet\non validation images (%)")
    ax.margins(x=0.01)


def _draw_retrained(ax: Axes, plan: Plan, experiment: Experiment) -> None:
    """The final cells' test accuracies, a column for each method."""
    methods = {_look(plan, method): place for place, method in enumerate(experiment.methods)}
    for colour, marker, folder in _runs(plan, experiment):
        accuracy = load_number(folder / "retrain/metrics.json", "test_accuracy")
        ax.plot(methods[colour, marker], accuracy, marker, color=colour, markerfacecolor="white", markersize=5)
    ax.set(xticks=[], xlim=(-0.7, len(methods) - 0.3), xlabel="final cell\nretrained")
    ax.set_facecolor("#F4F4F4")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _legend(figure: Figure, plan: Plan, experiments: list[Experiment], looked_up: bool) -> None:
    """Methods, and what the signs mean, above the panels."""
    names = dict.fromkeys(method for experiment in experiments for method in experiment.methods)
    handles = []
    for name in names:
        colour, marker = _look(plan, name)
        width = 0 if plan.is_random(name) else None  # no search, no curve
        handles.append(Line2D([], [], color=colour, linewidth=width, marker=marker, markersize=4, label=name))
    if not looked_up:
        sign: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4, "markeredgecolor": GREY}
        handles += [
            Line2D([], [], **sign, markerfacecolor=GREY, label="decoded cell changes"),
            Line2D([], [], **sign, markerfacecolor="white", label="final cell, test images"),
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6, columnspacing=1.4)
