"""The step that computes statistics, and the figures that say what its tests found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_results import make_config, write_results
from matplotlib.text import Text

from midas.analysis.figures.dip import dip
from midas.analysis.figures.similarity import class_similarity
from midas.analysis.statistics.class_tests import group_test
from midas.analysis.statistics.writing import statistics
from midas.config.keys import Config
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = make_config(tmp_path_factory.mktemp("statistics"))
    write_results(Plan(config))
    return config


def run(config: Config, folder: Path, **analysis: Any) -> dict[str, Any]:
    assert config.analysis is not None
    changed = config.model_copy(update={"analysis": config.analysis.model_copy(update=analysis)})
    statistics(PresentRun(config=changed), folder)
    return json.loads((folder / "metrics.json").read_text())


def test_statistics_writes_every_method_and_seed(config: Config, tmp_path: Path) -> None:
    metrics = run(config, tmp_path)
    weights = pd.read_csv(tmp_path / "weights.csv")
    assert set(zip(weights["method"], weights["seed"], strict=True)) == {
        (m, s) for m in ("midas", "no_patch") for s in (0, 1)
    }
    assert np.allclose(weights.groupby(["method", "seed", "cell"])["share"].sum(), 1)
    dip = pd.read_csv(tmp_path / "dip.csv")
    assert [summary["tested"] for summary in metrics["dip"]] == dip.groupby("seed").size().tolist() == [4 * 14 * 7] * 2
    rejected = (dip["p_value"] < 0.05).groupby(dip["seed"]).sum()
    assert [summary["rejected"] for summary in metrics["dip"]] == rejected.tolist()
    assert [summary["images"] for summary in metrics["dip"]] == [400, 400]
    assert len(pd.read_csv(tmp_path / "similarity.csv")) == 2 * 10 * 10
    assert [effect["seed"] for effect in metrics["class_effect"]] == [0, 1]
    assert metrics["groups"] is None


def test_groups_are_tested_for_each_seed_and_for_their_mean(config: Config, tmp_path: Path) -> None:
    groups = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"]}
    found = run(config, tmp_path, groups=groups)["groups"]
    table = pd.read_csv(tmp_path / "similarity.csv", dtype={"class_a": str, "class_b": str})
    keys = ("within", "between", "difference", "p_value")
    for row in found["seeds"]:
        one = table[table["seed"] == row["seed"]].pivot(index="class_a", columns="class_b", values="cosine_centred")
        alone = group_test(one, groups)
        assert [row[key] for key in keys] == pytest.approx([alone[key] for key in keys])
    assert found["names"] == groups
    assert found["difference"] == pytest.approx(np.mean([row["difference"] for row in found["seeds"]]))
    assert (found["permutations"], found["exact"]) == (35, True)  # 7! / (4! 3!)


def test_figures_3_and_4_say_what_the_tests_found(config: Config) -> None:
    assert config.analysis is not None
    groups = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"]}
    plan = Plan(config.model_copy(update={"analysis": config.analysis.model_copy(update={"groups": groups})}))
    statistics(PresentRun(config=plan.config), plan.root / "analysis")
    metrics = json.loads((plan.root / "analysis/metrics.json").read_text())
    said = "\n".join(text.get_text() for text in dip(plan).findobj(Text))
    rejected = sum(row["rejected"] for row in metrics["dip"])
    assert f"rejected: {rejected} of 784\nexpected by chance: at most 39\nafter Benjamini-Hochberg: " in said
    assert "(400 images, 2 searches)" in said
    assert "the table ends there" not in said
    metrics["dip"][0]["images"] = 100_000
    (plan.root / "analysis/metrics.json").write_text(json.dumps(metrics))
    said = "\n".join(text.get_text() for text in dip(plan).findobj(Text))
    assert "(100,000 images, 2 searches)\n(p-values of 72,000 images: the table ends there)" in said
    figure = class_similarity(plan)
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert "round / straight: within" in said
    assert f"= {metrics['groups']['difference']:.2f}" in said
    assert f"permutation p = {metrics['groups']['p_value']:.3f}" in said
    assert ("not significant" in said) == (metrics["groups"]["p_value"] >= 0.05)
    assert f"to {100 * max(row['eta_squared'] for row in metrics['class_effect']):.1f} % of the variance" in said
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert order == [*groups["round"], *groups["straight"], "2", "3", "5"]


@pytest.mark.parametrize("content", [{}, {"dip": [], "class_effect": [{}]}])
def test_figures_of_metrics_without_tests_name_the_file(config: Config, content: dict[str, Any]) -> None:
    plan = Plan(config)
    statistics(PresentRun(config=config), plan.root / "analysis")
    (plan.root / "analysis/metrics.json").write_text(json.dumps(content))
    for draw in (dip, class_similarity):
        with pytest.raises(ValueError, match=r"analysis/metrics\.json: holds no "):
            draw(plan)


def test_statistics_needs_the_key_analysis(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="analysis: missing"):
        statistics(PresentRun(config=make_config(tmp_path, analysis=None)), tmp_path)
