"""Figure 12: what the decoded NAS-Bench-201 cell is worth as the search goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from midas.analysis.figures.many import many
from midas.analysis.figures.style import GREY, METHOD_COLOURS, METHOD_MARKERS, WIDTH, panel_label
from midas.analysis.results import load_number, load_table
from midas.config.keys import Experiment
from midas.plan.plan import Plan

SPACE = "nas_bench_201"
ACCURACY = "c10_test_acc_200"


def progress(plan: Plan) -> Figure:
    """Accuracy against epoch, a line for each seed.

    With the benchmark's table: its CIFAR-10 test accuracy of the cell that an epoch's mean weights decode to. Without: the
    supernet's validation accuracy, with marks where that cell changes. Right: the final cells' test accuracy, looked up or
    retrained. Where two methods had one colour, each has a panel of its own instead, with the mean of its seeds.

    Raises:
        ValueError: a history or metrics file is missing or lacks a value.
    """
    experiments = [e for e in plan.config.experiments if e.space == SPACE]
    looked_up = plan.evaluation(SPACE) == "lookup"
    shown = list(dict.fromkeys(method for experiment in experiments for method in experiment.methods))
    if len({_look(plan, method) for method in shown}) < len(shown):
        return many(plan, experiments, looked_up)
    figure = Figure(figsize=(WIDTH, 2.4 * len(experiments) + 0.6), layout="constrained")
    axes = figure.subplots(len(experiments), 2, sharey="row", squeeze=False, width_ratios=[9, 1])
    for row, experiment, letter in zip(axes, experiments, ascii_lowercase, strict=False):
        methods = experiment.methods
        if looked_up:
            _draw_looked_up(row, plan, experiment, methods)
            _draw_final(row[1], plan, experiment, methods, "lookup/metrics.json", "cell", ACCURACY)
        else:
            _draw_supernet(row[0], plan, experiment, methods)
            _draw_final(row[1], plan, experiment, methods, "retrain/metrics.json", "test_accuracy")
            row[1].set_xlabel("final cell\nretrained")
        row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set_xlabel("epoch of the search" + (f" on {experiment.dataset}" if len(experiments) > 1 else ""))
        if len(experiments) > 1:
            panel_label(row[0], letter, experiment.dataset)
    handles = _handles(plan, shown, looked_up)
    figure.legend(handles=handles, loc="outside upper left", **_columns(handles))
    return figure


def _runs(
    plan: Plan, experiment: Experiment, methods: Sequence[str], searched: bool = False
) -> Iterator[tuple[str, str, Path]]:
    """Colour, marker and folder of each evaluated cell, those that were searched for alone if asked for."""
    for method in methods:
        if searched and plan.is_unsearched(method):
            continue
        for seed in plan.config.seeds:
            yield *_look(plan, method), plan.folder(SPACE, experiment.dataset, method, seed)


def _look(plan: Plan, method: str) -> tuple[str, str]:
    """Colour and marker of a method: its place among all methods of the configuration."""
    place = list(plan.config.methods).index(method) % len(METHOD_COLOURS)
    return METHOD_COLOURS[place], METHOD_MARKERS[place]


def _draw_looked_up(axes: Sequence[Axes], plan: Plan, experiment: Experiment, methods: Sequence[str]) -> None:
    left, optima = axes[0], set()
    for colour, _, folder in _runs(plan, experiment, methods, searched=True):
        history = load_table(folder / "lookup/history.csv", ("epoch", ACCURACY))
        optima.add(load_number(folder / "lookup/metrics.json", "benchmark", ACCURACY, "best"))
        # steps: there is one cell at each epoch, and none between two
        left.plot(history["epoch"], history[ACCURACY], color=colour, alpha=0.8, drawstyle="steps-mid")
    for optimum in optima:
        for ax in axes:
            ax.axhline(optimum, color="black", linewidth=0.8, linestyle="--", zorder=1)
        text = f"optimum of the benchmark {optimum:.2f}"
        left.annotate(text, (0.005, optimum), (0, 2), left.get_yaxis_transform(), "offset points", fontsize=7)
    left.set_ylabel("CIFAR-10 test accuracy of the decoded\ncell, looked up in the benchmark (%)")
    left.margins(x=0.01, y=0.08)


def _draw_supernet(ax: Axes, plan: Plan, experiment: Experiment, methods: Sequence[str]) -> None:
    for colour, marker, folder in _runs(plan, experiment, methods, searched=True):
        history = load_table(folder / "search/history.csv", ("epoch", "valid_accuracy", "genotype"))
        cells = history["genotype"]
        changed = history[(cells != cells.shift()) & cells.shift().notna()]
        ax.plot(history["epoch"], history["valid_accuracy"], color=colour, alpha=0.8)
        ax.plot(changed["epoch"], changed["valid_accuracy"], marker, color=colour, markersize=3.5, alpha=0.8)
    ax.set_ylabel("accuracy of the supernet\non validation images (%)")
    ax.margins(x=0.01)


def _draw_final(ax: Axes, plan: Plan, experiment: Experiment, methods: Sequence[str], file: str, *keys: str) -> None:
    """The final cells' test accuracies, a column for each method."""
    places = {_look(plan, method): place for place, method in enumerate(methods)}
    for colour, marker, folder in _runs(plan, experiment, methods):
        accuracy = load_number(folder / file, *keys)
        ax.plot(
            places[colour, marker],
            accuracy,
            marker,
            color=colour,
            markerfacecolor="white",
            markersize=5,
            clip_on=False,
        )
    ax.set(xticks=[], xlim=(-0.7, len(places) - 0.3), xlabel="final cell")
    ax.set_facecolor("#F4F4F4")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _handles(plan: Plan, methods: Iterable[str], looked_up: bool) -> list[Line2D]:
    """Of a legend: methods, and what the signs mean."""
    handles = []
    for name in methods:
        colour, marker = _look(plan, name)
        width = 0 if plan.is_unsearched(name) else None  # no search, no curve
        handles.append(Line2D([], [], color=colour, linewidth=width, marker=marker, markersize=4, label=name))
    if not looked_up:
        sign: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4, "markeredgecolor": GREY}
        handles += [
            Line2D([], [], **sign, markerfacecolor=GREY, label="decoded cell changes"),
            Line2D([], [], **sign, markerfacecolor="white", label="final cell, test images"),
        ]
    return handles


def _columns(handles: Sequence[Line2D]) -> dict[str, Any]:
    """As many columns of a legend as the page is wide, by the longest name."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    fitting = int(WIDTH / (0.4 + 0.055 * longest))  # a character of 7 points is about 0.055 inches wide
    return {"ncols": max(1, min(len(handles), fitting)), "handlelength": 1.6, "columnspacing": 1.4}
