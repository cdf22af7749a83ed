"""Verdicts on the paper's claims, on made-up results that only tests ever see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from made_up_claims import GOOD, fabricate, make_config, write
from places import ROOT
from scipy.stats import binomtest

from midas.analysis import literature
from midas.analysis.claims import judging
from midas.analysis.claims.judging import METRICS, NOT_REPRODUCED, NOT_TESTED, REPRODUCED, judge_all
from midas.analysis.claims.writing import to_markdown
from midas.config.keys import Config
from midas.plan.claims import Metric, read_claims
from midas.plan.runs import PresentRun


def verdicts(config: Config) -> dict[str, dict[str, Any]]:
    return {claim["id"]: claim for claim in judge_all(config)["claims"]}


def test_good_results_at_paper_size_reproduce_every_claim(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path)))
    assert {name: claim["verdict"] for name, claim in found.items()} == {f"C{i}": REPRODUCED for i in range(1, 9)}
    for claim in found.values():
        assert claim["measured"][0]["n"] == 4
        assert claim["files"]
        assert all(Path(file).exists() for file in claim["files"])


@pytest.mark.parametrize(
    ("claim", "changes", "because"),
    [
        ("C1", {"cells": [9930, 9930, 9930, 1462]}, "3 of 4 seeds; cells no. 9930, 9930, 9930, 1462"),
        ("C2", {"accuracy": GOOD["accuracy"] | {"darts/cifar10": 97.2}}, "lies below 97.27"),
        ("C2", {"accuracy": GOOD["accuracy"] | {"darts/cifar10": 97.28}}, "undecided"),
        ("C3", {"accuracy": GOOD["accuracy"] | {"darts/cifar100": 82.5}}, "lies below 82.88"),
        ("C4", {"accuracy": GOOD["accuracy"] | {"s1/cifar10": 97.0, "s3/cifar10": 97.0}}, "best in 0 of 4"),
        ("C4", {"accuracy": GOOD["accuracy"] | {"s1/cifar10": 97.34}}, "undecided: best in 1 of 4"),
        ("C5", {"spread": GOOD["spread"] | {"no_patch": 0.3}}, "no_patch: "),
        ("C5", {"spread": GOOD["spread"] | {"ps4": 0.03}}, "ps4: "),
        ("C5", {"spread": GOOD["spread"] | {"midas": 0.05}}, "undecided"),
        ("C6", {"rejected": 0.7}, "lies above 50"),
        ("C6", {"rejected": 0.49}, "undecided"),
        ("C7", {"p_groups": 0.2}, "p-value of the groups: 0.2, not significant"),
        ("C7", {"p_class": [0.005, 0.005, 0.4, 0.005]}, "largest p-value of the class's effect: 0.4, not significant"),
        ("C8", {"top1": 70.0}, "lies above 26.7"),
        ("C8", {"top1": 73.31}, "undecided"),
        ("C8", {"multiply_adds": 610e6}, "610 M multiply-adds: not the mobile setting"),
    ],
)
def test_bad_results_reproduce_no_such_claim_and_leave_the_others_alone(claim, changes, because, tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path), **changes))
    assert found[claim]["verdict"] == NOT_REPRODUCED
    assert because in found[claim]["reason"]
    assert all(other["verdict"] == REPRODUCED for name, other in found.items() if name != claim)


def test_at_size_gpu_only_claims_on_searches_are_judged(tmp_path):
    found = verdicts(fabricate(make_config("gpu", tmp_path)))
    judged = {name for name, claim in found.items() if claim["verdict"] != NOT_TESTED}
    assert judged == {"C1", "C5", "C6", "C7"}
    assert "not under the paper's protocol" in found["C1"]["reason"]
    assert found["C2"]["reason"] == "needs size paper"
    assert found["C2"]["measured"][0]["mean"] == pytest.approx(97.44, abs=0.01)
    assert "too few seeds: 1, needs 3" in found["C8"]["reason"]


def test_the_demo_tests_nothing_but_shows_what_it_measured(tmp_path):
    found = verdicts(fabricate(make_config("config", tmp_path)))
    assert {claim["verdict"] for claim in found.values()} == {NOT_TESTED}
    for words in ("needs size gpu or larger", "digits stands in for cifar10", "too few seeds: 2, needs 3", "no table"):
        assert words in found["C1"]["reason"]
    assert found["C3"]["measured"][0]["site"] == {"space": "darts", "dataset": "digit_pairs", "method": "midas"}
    assert "digit_photos stands in for imagenet" in found["C8"]["reason"]
    assert all(claim["measured"] for claim in found.values())


def test_a_size_that_the_file_does_not_list_is_never_judged(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path, size="mine")))
    assert {claim["verdict"] for claim in found.values()} == {NOT_TESTED}
    assert "size mine is not listed in" in found["C1"]["reason"]


def test_accuracies_need_the_papers_protocol_whatever_the_size_is_called(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path, paper_protocol=False)))
    assert {name for name, claim in found.items() if claim["verdict"] == NOT_TESTED} == {"C2", "C3", "C4", "C8"}
    assert found["C2"]["reason"] == "needs the paper's protocol"


def test_two_seeds_are_too_few(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path, seeds=[0, 1])))
    assert {claim["reason"] for claim in found.values()} == {"too few seeds: 2, needs 3"}


def test_a_single_seed_has_no_interval_over_seeds(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path, seeds=[0])))
    assert found["C2"]["measured"][0]["low"] is None
    assert "Clopper-Pearson" in found["C6"]["measured"][0]["interval"]


def test_seeds_that_do_not_vary_have_no_interval_over_seeds(tmp_path):
    found = verdicts(fabricate(make_config("paper", tmp_path, seeds=[0, 1, 2]), spread_over_seeds=(0.0,) * 4))
    assert found["C2"]["measured"][0]["low"] is None
    assert found["C2"]["reason"] == "undecided: test accuracy (%), midas: no interval"
    low, high = (found["C6"]["measured"][0][end] for end in ("low", "high"))
    assert (low, high) == pytest.approx([100 * end for end in binomtest(480, 2400).proportion_ci(0.95)])
    assert found["C6"]["verdict"] == REPRODUCED


def test_what_a_configuration_leaves_out_is_not_tested(tmp_path):
    config = make_config("paper", tmp_path)
    experiments = [e.model_copy(update={"transfer": None}) for e in config.experiments if e.space != "s2"]
    found = verdicts(fabricate(config.model_copy(update={"experiments": experiments, "analysis": None})))
    assert found["C4"]["reason"] == "no experiment in s2"
    assert found["C6"]["reason"] == "no analysis of the weights"
    assert found["C6"]["measured"] == []
    assert found["C8"]["reason"] == "no transfer in darts"


def test_searches_that_are_not_evaluated_are_not_tested(tmp_path):
    config = make_config("paper", tmp_path)
    alone = {"methods": [], "ablation": ["midas"]}
    experiments = [e.model_copy(update=alone) if e.space == "s2" else e for e in config.experiments]
    found = verdicts(fabricate(config.model_copy(update={"experiments": experiments})))
    assert found["C4"]["reason"] == "no evaluated method in s2"


def test_without_groups_or_without_a_method_without_patches_there_is_no_verdict(tmp_path):
    config = make_config("paper", tmp_path)
    analysis = config.analysis.model_copy(update={"groups": {}, "compare": ["ps4", "midas"]})
    found = verdicts(fabricate(config.model_copy(update={"analysis": analysis})))
    assert found["C5"]["reason"] == "no method without patches is compared"
    assert "no groups of classes" in found["C7"]["reason"]


def test_another_space_stands_in_for_the_one_analysed(tmp_path):
    config = make_config("paper", tmp_path)
    analysis = config.analysis.model_copy(update={"space": "nas_bench_201"})
    found = verdicts(fabricate(config.model_copy(update={"analysis": analysis})))
    assert found["C5"]["reason"] == "nas_bench_201 stands in for darts"


def test_networks_without_a_published_mean_stay_open(tmp_path):
    config = make_config("paper", tmp_path)
    narrow = [
        e.model_copy(update={"retrain": e.retrain.model_copy(update={"channels": 8})}) if e.retrain else e
        for e in config.experiments
    ]
    found = verdicts(fabricate(config.model_copy(update={"experiments": narrow})))
    assert found["C4"]["verdict"] == NOT_REPRODUCED
    assert found["C4"]["reason"].startswith("undecided: best in 0 of 4 spaces, at most in 4")


def test_missing_files_are_all_named(tmp_path):
    config = fabricate(make_config("paper", tmp_path))
    gone = [
        tmp_path / "paper/darts/cifar10/midas/seed1/retrain/metrics.json",
        tmp_path / "paper/darts/cifar10/midas/seed3/retrain/metrics.json",
        tmp_path / "paper/analysis/weights.csv",
    ]
    for path in gone:
        path.unlink()
    with pytest.raises(ValueError, match="missing") as error:
        judge_all(config)
    assert set(str(error.value).splitlines()) == {f"{path}: missing" for path in gone}


@pytest.mark.parametrize(
    ("change", "claim", "words"),
    [
        (
            {"dip": [{"seed": 0, "tested": 0}]},
            None,
            "dip.rejected, dip.rejected_share, dip.rejected_benjamini_hochberg is missing",
        ),
        ({"dip": None}, None, "dip.tested"),
        (
            {"class_effect": [{"eta_squared": None, "p_value": None}] * 4},
            "C7",
            "the similarity of classes is undefined",
        ),
        ({"groups": {"p_value": None, "seeds": []}}, "C7", "the similarity of classes is undefined"),
    ],
)
def test_statistics_that_say_nothing_are_no_verdict_and_damaged_ones_are_refused(change, claim, words, tmp_path):
    config = fabricate(make_config("paper", tmp_path))
    path = tmp_path / "paper/analysis/metrics.json"
    write(path, json.loads(path.read_text()) | change)
    if claim is None:
        with pytest.raises(ValueError, match="metrics") as error:
            judge_all(config)
        assert words in str(error.value)
    else:
        assert words in verdicts(config)[claim]["reason"]
        assert verdicts(config)[claim]["verdict"] == NOT_TESTED


def test_weights_that_do_not_vary_cannot_be_tested_for_modes(tmp_path):
    config = fabricate(make_config("paper", tmp_path))
    path = tmp_path / "paper/analysis/metrics.json"
    content = json.loads(path.read_text())
    content["dip"][2] |= {"tested": 0, "rejected": 0, "rejected_share": None}
    write(path, content)
    assert verdicts(config)["C6"]["reason"] == "a seed has no weights that differ between images"


def test_the_command_writes_both_files(tmp_path):
    config = fabricate(make_config("paper", tmp_path))
    run = PresentRun(config=config).model_dump_json()
    command = [sys.executable, "-m", "midas.analysis.claims", run, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out/claims.json").read_text())
    assert content["verdicts"] == {REPRODUCED: 8, NOT_REPRODUCED: 0, NOT_TESTED: 0}
    text = (tmp_path / "out/claims.md").read_text()
    assert "✔ reproduced" in text
    assert "97.45 [97.4" in text


def test_markdown_tables_are_rectangular(tmp_path):
    lines = to_markdown(judge_all(fabricate(make_config("config", tmp_path)))).splitlines()
    blocks, previous = [], ""
    for line in lines:
        if line.startswith("|"):
            blocks += [[]] if not previous.startswith("|") else []
            blocks[-1].append(line.count("|"))
        previous = line
    assert len(blocks) == 9
    assert all(len(set(counts)) == 1 for counts in blocks)


def test_every_metric_of_the_file_has_a_rule():
    assert set(METRICS) == set(get_args(Metric))
    assert [claim.id for claim in read_claims(ROOT / "config/claims.yaml").claims] == [f"C{i}" for i in range(1, 9)]
    assert set(judging.VERDICTS) == {REPRODUCED, NOT_REPRODUCED, NOT_TESTED}


def test_numbers_of_darts_that_the_rules_lean_on_are_those_of_the_literature():
    rows = literature.load("darts").query("method == 'DARTS-2nd'").set_index("quantity")
    by_id = {claim.id: claim for claim in read_claims(ROOT / "config/claims.yaml").claims}
    assert rows.loc["imagenet_top1_error", "mean"] == by_id["C8"].expected
    for name, quantity in (("C2", "c10_error"), ("C3", "c100_error")):
        accuracy = 100 - rows.loc[quantity, "mean"]
        assert f"({accuracy:.2f} %)" in " ".join(by_id[name].assumptions.split()).replace("),", ")")
        assert by_id[name].expected - by_id[name].tolerance > accuracy
