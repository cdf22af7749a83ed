"""Ranks of methods by benchmark and retraining settings: correlations by hand, the table, the figure, what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from places import ROOT
from scipy.stats import spearmanr
from small_configuration import problems, put

from midas.analysis.ranks.__main__ import make
from midas.analysis.ranks.figure import draw
from midas.analysis.statistics.ranks import agreement, correlations, drawn_means, interval, of_pairs, ranks
from midas.plan.check import load
from midas.plan.further.ranks import experiments

METHODS = ["midas", "static", "third"]


@pytest.fixture
def ranked(raw):
    """Three methods in two spaces, under two settings."""
    raw["methods"]["third"] = {"weights": "static", "beta": {}}
    raw["analysis"] = None
    for experiment, space in zip(raw["experiments"], ("wide_regular", "deep_all_skip"), strict=True):
        sizes = {"channels": 4, "cells": 3, "epochs": 2}
        experiment |= {"space": space, "methods": METHODS, "ablation": [], "search": sizes}
        experiment |= {"retrain": sizes | {"auxiliary": 0}, "retrain_as": "hp1", "retrain_also": {"hp2": {"lr": 0.1}}}
    return raw | {"ranks": {"methods": METHODS}}


def leave(plan, accuracy):
    """The files of all retrainings; `accuracy` of space, setting, method and seed."""
    for cell in plan.cells():
        for setting in cell.experiment.retrainings():
            folder = plan.retrain_folder(cell, setting)
            folder.mkdir(parents=True)
            value = accuracy(cell.experiment.space, setting, cell.method, cell.seed)
            (folder / "metrics.json").write_text(json.dumps({"test_accuracy": value}))


def other_way_round(space, setting, method, seed):
    """In one space hp2 turns the order round; seeds never change it."""
    place = METHODS.index(method)
    turned = space == "deep_all_skip" and setting == "hp2"
    return 90.0 - 5 * (2 - place if turned else place) + 0.1 * seed


def test_ranks_and_correlations_are_those_of_scipy():
    values = np.random.default_rng(0).normal(size=(2, 4, 6))
    found = correlations(ranks(values))
    for b in range(2):
        np.testing.assert_allclose(found[b], spearmanr(values[b].T).statistic, rtol=1e-12)
        pairs = [found[b, i, j] for i in range(4) for j in range(i + 1, 4)]
        assert of_pairs(found)[b] == pytest.approx(np.mean(pairs))
    assert ranks(np.array([3.0, 5.0, 5.0, 1.0])).tolist() == [3, 1.5, 1.5, 4]
    equal = correlations(np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]))
    assert np.isnan(equal[0]).all()
    assert equal[1, 1] == pytest.approx(1)
    assert np.isnan(of_pairs(equal))


def test_a_draw_takes_the_same_seeds_under_all_settings():
    values = np.random.default_rng(1).normal(size=(2, 1, 3, 4)).repeat(3, 1)
    means = drawn_means(values, 50)
    assert means.shape == (50, 2, 3, 3)
    assert (means == means[:, :, :1]).all(), "equal settings stay equal in every draw"
    assert means.std(0).min() > 0
    found = agreement(values, 50)
    assert interval(of_pairs(found.drawn_settings)[:, 0]) == (pytest.approx(1), pytest.approx(1))
    low, high = interval(of_pairs(found.drawn_benchmarks)[:, 0])
    assert low < high


def test_seeds_that_differ_widen_the_interval_and_one_seed_has_none():
    draw = np.random.default_rng(2)
    clear = 10 * np.arange(4.0)[:, None] + draw.normal(size=(2, 2, 4, 3))
    noisy = np.arange(4.0)[:, None] + 3 * draw.normal(size=(2, 2, 4, 3))
    widths = []
    for values in (clear, noisy):
        low, high = interval(of_pairs(agreement(values, 300).drawn_benchmarks)[:, 0])
        widths.append(high - low)
    assert widths[0] == pytest.approx(0)
    assert widths[1] > 0.2
    assert np.isnan(interval(of_pairs(agreement(clear[..., :1]).drawn_settings)[:, 0])).all()


def test_the_table_says_where_a_ranking_survives_and_where_it_turns_round(ranked, tmp_path):
    plan = load(ranked)
    leave(plan, other_way_round)
    make(plan.presented(), tmp_path / "tables")
    text = (tmp_path / "tables/table_s1.md").read_text()
    numbers = pd.read_csv(tmp_path / "tables/table_s1.csv")
    assert (tmp_path / "tables/table_s1.tex").exists()
    assert "wide_regular" in text
    at = numbers[(numbers["quantity"] == "rank_third") & (numbers["setting"] == "hp2")].set_index("space")["mean"]
    assert at.to_dict() == {"wide_regular": 3, "deep_all_skip": 1}
    found = numbers[numbers["quantity"] == "rank_correlation"].set_index(["part", "group"])
    between = found.loc["between retraining settings"]["mean"].to_dict()
    assert between == pytest.approx({"wide_regular": 1, "deep_all_skip": -1, "all of them": 0})
    assert found.loc["between benchmarks"]["mean"].to_dict() == pytest.approx({"hp1": 1, "hp2": -1, "all of them": 0})
    assert (found["low"] == found["high"]).all(), "seeds never change the order here"
    assert "95 % percentile interval over 2,000 draws of the seeds" in text


def test_the_figure_is_drawn_and_its_bytes_stay(ranked, tmp_path):
    plan = load(ranked)
    leave(plan, other_way_round)
    for name in ("a", "b"):
        draw(plan.presented(), tmp_path / name)
    for form in ("png", "pdf"):
        first, second = ((tmp_path / f"{name}/figure_s1.{form}").read_bytes() for name in ("a", "b"))
        assert len(first) > 1000
        assert first == second


def test_one_seed_one_setting_and_two_methods_are_said_to_be_so(ranked, tmp_path):
    ranked |= {"seeds": [0], "ranks": {"methods": METHODS[:2]}}
    for experiment in ranked["experiments"]:
        del experiment["retrain_also"]
    plan = load(ranked)
    leave(plan, other_way_round)
    make(plan.presented(), tmp_path)
    text = (tmp_path / "table_s1.md").read_text()
    assert "With two methods a rank correlation is 1 or" in text
    assert "Between retraining settings" not in text  # there is one
    assert "Between benchmarks" in text
    assert "one seed: no spread" in text
    draw(plan.presented(), tmp_path)


def test_a_file_that_is_missing_ends_in_a_line(ranked, tmp_path):
    plan = load(ranked)
    with pytest.raises(ValueError, match=r"retrain/metrics.json: not a readable metrics file"):
        make(plan.presented(), tmp_path)
    assert not list(tmp_path.glob("table*"))
    with pytest.raises(ValueError, match="ranks no methods"):
        make(load(ranked | {"ranks": None}).presented(), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("ranks.methods", ["midas", "nobody"], "ranks.methods: 'nobody' does not exist; allowed: midas, static"),
        ("ranks.methods", ["midas", "midas"], "ranks.methods: ['midas', 'midas'] is not allowed; each method once"),
        ("ranks.methods", ["midas", "no_patch"], "ranks.methods: no experiment retrains the cells of all of them"),
        ("ranks.methods", ["midas"], "ranks.methods: ['midas'] is not allowed; "),
        ("experiments.1.retrain_as", "hp3", "experiments.1.retrain_also: settings hp3, hp2 are not allowed with ranks"),
    ],
)
def test_wrong_ranks_end_in_a_line(ranked, key, value, line):
    put(ranked, key, value)
    assert any(problem.startswith(line) for problem in problems(ranked))


def test_the_suite_has_its_nine_settings_in_order_and_as_many_jobs_as_it_has():
    """HP1 to HP9: learning rates .025, .1, .01, in each weight decays 1e-4, 3e-4, 1e-3."""
    raw = yaml.safe_load((ROOT / "config/bench_suite.yaml").read_text())
    for experiment in raw["experiments"]:  # the data aren't needed
        experiment["dataset"] = "digits"
        experiment["search"] |= {"first_images": 1000}
        experiment["retrain"] |= {"leave_out": 0}
    plan = load(raw)
    settings = plan.config.experiments[0].retrainings()
    expected = [(lr, decay) for lr in (0.025, 0.1, 0.01) for decay in (1e-4, 3e-4, 1e-3)]
    assert [(s.lr, s.weight_decay) for s in settings.values()] == expected
    assert list(settings) == [f"hp{n}" for n in range(1, 10)]
    assert len(list(plan.cells(searched=True))) == 189
    assert len(list(plan.cells(evaluated=True))) + len(list(plan.retrained_also())) == 1701
    assert experiments(plan) == plan.config.experiments
