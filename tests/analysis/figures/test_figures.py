"""Figures: drawn from files, equal from run to run, each with its size and its caption."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_doctree
from drawn_figures import NUMBERS, drawn, texts
from jinja2 import StrictUndefined, Template
from made_up_results import make_config, with_config, write_results
from matplotlib.text import Text
from places import ROOT

from midas.analysis.figures import drawing as figures
from midas.analysis.figures.dip import median_test
from midas.analysis.results import load_number
from midas.analysis.statistics.writing import statistics
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


@pytest.mark.parametrize("number", NUMBERS)
def test_two_runs_give_equal_bytes(plan: Plan, tmp_path: Path, number: int) -> None:
    sums = []
    for name in ("first", "second"):
        figures.draw(PresentRun(number=number, config=plan.config), tmp_path / name)
        files = [tmp_path / name / f"figure_{number:02d}.{suffix}" for suffix in ("pdf", "png")]
        sums.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert sums[0] == sums[1]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_says_its_size_unless_it_is_the_papers(plan: Plan, number: int) -> None:
    assert any(text.startswith("size demo: made-up numbers") for text in texts(drawn(number, plan.config)))
    paper = plan.config.model_copy(update={"paper_protocol": True})
    assert not any("made-up" in text for text in texts(drawn(number, paper)))


@pytest.mark.parametrize("number", NUMBERS)
def test_nothing_leaves_the_page_or_touches_the_note(plan: Plan, number: int) -> None:
    figure = drawn(number, plan.config)
    assert all(np.array(figure.get_tightbbox().min) >= 0)
    assert all(np.array(figure.get_tightbbox().max) <= figure.get_size_inches())
    note = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("size demo"))[0]
    parts = [*figure.axes, *figure.legends]
    assert not any(part.get_tightbbox().overlaps(note.get_window_extent()) for part in parts)


def test_every_figure_of_the_plan_can_be_drawn(plan: Plan) -> None:
    assert plan.figures() == NUMBERS  # S1 to S4 are not searched here
    assert sorted(figures.FIGURES) == list(range(1, 13))
    with pytest.raises(ValueError, match="figure 8 does not exist at size demo; allowed: "):
        figures.draw(PresentRun(number=8, config=plan.config), Path("unused"))


@pytest.mark.parametrize("number", NUMBERS)
def test_missing_files_are_named(tmp_path: Path, number: int) -> None:
    config = make_config(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/results/demo/\S+: not a .*No such file"):
        figures.draw(PresentRun(number=number, config=config), tmp_path)


def test_figures_of_a_nas_bench_201_search(plan: Plan, tmp_path: Path) -> None:
    config = make_config(
        tmp_path, analysis={"space": "nas_bench_201", "dataset": "digits", "method": "midas", "compare": ["midas"]}
    )
    own = Plan(config)
    write_results(own)
    statistics(PresentRun(config=config), own.root / "analysis")
    for number in range(1, 6):
        assert "none" in texts(drawn(number, config)) or number in (3, 4)


def test_progress_says_which_accuracy_it_shows(plan: Plan) -> None:
    trained = " ".join(texts(drawn(12, plan.config)))
    assert "accuracy of the supernet" in trained
    assert "final cell\nretrained" in trained
    figure = drawn(12, with_config(plan, nas_bench_201_table="benchmark.csv").config)
    looked_up = " ".join(texts(figure))
    assert "looked up in the benchmark" in looked_up
    assert "optimum of the benchmark 94.00" in looked_up
    methods, seeds = plan.experiment("nas_bench_201", "digits").methods, plan.config.seeds
    folders = [plan.folder("nas_bench_201", "digits", method, seed) for method in methods for seed in seeds]
    decoded = [load_number(folder / "lookup/metrics.json", "cell", "c10_test_acc_200") for folder in folders]
    marks = [line.get_ydata()[0] for line in figure.axes[1].lines if line.get_linestyle() == "None"]
    assert marks == decoded  # the cells of the tables, and not those of the last epoch


def test_progress_marks_where_the_decoded_cell_changes(plan: Plan) -> None:
    ax = drawn(12, plan.config).axes[0]
    marks = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "None"]
    assert [list(line) for line in marks] == [[4, 8, 10]] * 4  # two methods, two seeds


@pytest.mark.parametrize("looked_up", [False, True])
def test_more_methods_than_colours_have_a_panel_each_with_the_mean_of_seeds(tmp_path: Path, looked_up: bool) -> None:
    methods = {f"m{number}": {"weights": "static", "patch_size": number + 1} for number in range(8)}
    table = {"nas_bench_201_table": "benchmark.csv"} if looked_up else {}
    experiment = {"space": "nas_bench_201", "dataset": "digits", "methods": [*methods, "random"]}
    size: dict[str, Any] = {"search": {"cells": 3, "epochs": 6}, "retrain": {"channels": 8, "cells": 3, "epochs": 2}}
    methods |= {"random": {"weights": "random"}}
    config = make_config(tmp_path, methods=methods, experiments=[experiment | size], analysis=None)
    many = with_config(Plan(config), **table)
    write_results(many)
    figure = drawn(12, many.config)
    assert [title for ax in figure.axes if (title := ax.get_title("left"))] == [f"m{number}" for number in range(8)]
    file, column = ("lookup/history.csv", "c10_test_acc_200") if looked_up else ("search/history.csv", "valid_accuracy")
    for number in (0, 7):
        folders = [many.folder("nas_bench_201", "digits", f"m{number}", seed) for seed in many.config.seeds]
        seeds = np.array([pd.read_csv(folder / file)[column] for folder in folders])
        *lines, mean = [line for line in figure.axes[number].lines if line.get_linestyle() == "-"]
        assert np.array([line.get_ydata() for line in lines]) == pytest.approx(seeds)
        assert mean.get_ydata() == pytest.approx(seeds.mean(0))
    final = figure.axes[-1]
    assert [label.get_text() for label in final.get_yticklabels()] == [*methods]
    means = [line.get_xdata()[0] for line in final.lines if line.get_marker() == "|"]
    file, *keys = (
        ("lookup/metrics.json", "cell", "c10_test_acc_200") if looked_up else ("retrain/metrics.json", "test_accuracy")
    )
    folder = many.folder("nas_bench_201", "digits", "random", many.config.seeds[0]).parent
    drawn_cells = [load_number(folder / f"seed{seed}" / file, *keys) for seed in many.config.seeds]
    assert means[-1] == pytest.approx(np.mean(drawn_cells))
    bounds = figure.get_tightbbox()
    assert (np.array(bounds.min) >= 0).all()
    assert (np.array(bounds.max) <= figure.get_size_inches()).all()


def test_beside_many_methods_cells_that_were_not_searched_for_are_drawn(tmp_path: Path) -> None:
    methods: dict[str, Any] = {f"m{number}": {"weights": "static"} for number in range(7)}
    size: dict[str, Any] = {"search": {"cells": 3, "epochs": 6}, "retrain": {"channels": 8, "cells": 3, "epochs": 2}}
    both = [{"space": "nas_bench_201", "dataset": "digits", "methods": [*methods], **size}]
    both += [{"space": "nas_bench_201", "dataset": "digit_pairs", "methods": ["random"], **size}]
    methods |= {"random": {"weights": "random"}}
    plan = Plan(make_config(tmp_path, methods=methods, experiments=both, analysis=None))
    write_results(plan)
    assert [label.get_text() for label in drawn(12, plan.config).axes[-1].get_yticklabels()] == ["random"]


def test_median_test_does_not_depend_on_the_order_of_rows() -> None:
    tests = pd.DataFrame({"cell": [0, 0, 1, 1], "edge": 0, "operation": list("abab"), "p_value": [0.9, 0.5, 0.5, 0.1]})
    for order in itertools.permutations(range(4)):
        row = median_test(tests.iloc[list(order)])
        assert (row["cell"], row["operation"], row["p_value"]) == (0, "b", 0.5)


@pytest.mark.parametrize("looked_up", [False, True])
def test_every_table_and_figure_has_a_caption_that_renders(plan: Plan, looked_up: bool) -> None:
    names = [f"figure_{number:02d}" for number in plan.figures()] + [f"table_{number}" for number in plan.tables()]
    raw = plan.config.model_dump(mode="json", exclude_unset=True)
    raw |= {"nas_bench_201_table": "benchmark.csv"} if looked_up else {}
    folder = ROOT / "workflow/report"
    for name in names:
        template = Template((folder / f"{name}.rst").read_text(), undefined=StrictUndefined)
        text = template.render(snakemake=SimpleNamespace(config=raw))
        publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})
        assert "made-up numbers" in text
        assert "seeds 0, 1" in text
