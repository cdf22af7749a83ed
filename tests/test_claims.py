"""Verdicts on the paper's claims, on made-up results that only tests ever see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import yaml
from scipy.stats import binomtest

from midas.analysis import literature
from midas.analysis.claims import judging
from midas.analysis.claims.judging import METRICS, NOT_REPRODUCED, NOT_TESTED, REPRODUCED, judge_all
from midas.analysis.claims.writing import to_markdown
from midas.config.keys import Config
from midas.plan.claims import Metric, read_claims
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.spaces.benchmark import ACCURACIES
from midas.spaces.darts import OPERATIONS

ROOT = Path(__file__).parent.parent
GOOD: dict[str, Any] = {
    "cells": [9930] * 4,
    "accuracy": {"darts/cifar10": 97.45, "darts/cifar100": 83.4, "s1/cifar10": 97.6, "s2/cifar10": 97.0, "s3/cifar10": 97.6,
                 "s4/cifar10": 97.0},
    "spread": {"no_patch": 0.02, "ps4": 0.5, "midas": 0.4},
    "rejected": 0.2,
    "p_groups": 0.01,
    "p_class": [0.005] * 4,
    "top1": 75.0,
    "multiply_adds": 570e6,
    "spread_over_seeds": (-0.03, 0.01, 0.0, 0.02),
}  # fmt: skip


def make_config(name: str, root: Path, **changes: Any) -> Config:
    raw = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    table = {"nas_bench_201_table": "table.csv.gz"} if name != "config" else {}
    return Config.model_validate(
        {**raw, **table, "results_dir": str(root), "claims": str(ROOT / "config/claims.yaml"), **changes}
    )


def fabricate(config: Config, **changes: Any) -> Config:
    """Files as the steps leave them, of the first method alone; the numbers are `GOOD` but for `changes`."""
    numbers, plan = GOOD | changes, Plan(config)
    for cell in plan.cells(evaluated=True):
        if cell.method == "midas":
            write_cell(plan.cell_folder(cell), cell.experiment, config.seeds.index(cell.seed), numbers)
    for cell in plan.transfers():
        adds = numbers["multiply_adds"]
        top1 = numbers["top1"] + numbers["spread_over_seeds"][config.seeds.index(cell.seed)]
        content = {"test_top1": top1, "multiply_adds": adds, "mobile_setting": adds < 600e6}
        write(plan.cell_folder(cell) / "transfer/metrics.json", content)
    if config.analysis:
        write_analysis(plan, numbers)
    return config


def write_cell(folder: Path, experiment: Any, place: int, numbers: dict[str, Any]) -> None:
    accuracy = (
        numbers["accuracy"].get(f"{experiment.space}/{experiment.dataset}", 50.0) + numbers["spread_over_seeds"][place]
    )
    write(folder / "retrain/metrics.json", {"test_accuracy": accuracy})
    row = {"index": numbers["cells"][place]} | dict.fromkeys(ACCURACIES, 90.0 + place)
    write(folder / "lookup/metrics.json", {"cell": row})


def write_analysis(plan: Plan, numbers: dict[str, Any]) -> None:
    config, rows = plan.config, []
    for method in dict.fromkeys([config.analysis.method, *config.analysis.compare]):
        for place, seed in enumerate(config.seeds):
            spread = numbers["spread"].get(method, 0.3) * (1 + numbers["spread_over_seeds"][place])
            for cell in range(3):
                rows += [(method, seed, cell, *row) for row in shares(spread if cell < 2 else 3 * spread)]
    plan.root.joinpath("analysis").mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["method", "seed", "cell", "operation", "share", "uniform"])
    table.to_csv(plan.root / "analysis/weights.csv", index=False)
    write(plan.root / "analysis/metrics.json", statistics(config, numbers))


def shares(spread: float) -> list[tuple[str, float, float]]:
    """Shares of the operations of a cell whose convolutions are `spread` equal weights apart; poolings are far off."""
    even = 1 / len(OPERATIONS)
    offsets = dict(zip(OPERATIONS[3:], (0.0, -spread / 2, 0.0, spread / 2), strict=True))
    return [(name, even * (1 + offsets.get(name, 0.9)), even) for name in OPERATIONS]


def statistics(config: Config, numbers: dict[str, Any]) -> dict[str, Any]:
    dips, effects, groups = [], [], []
    for place, seed in enumerate(config.seeds):
        share = numbers["rejected"] + numbers["spread_over_seeds"][place]
        counts = {"tested": 800, "rejected": round(800 * share), "rejected_share": share}
        dips.append({"seed": seed, **counts, "rejected_benjamini_hochberg": 8})
        effects.append({"seed": seed, "eta_squared": 0.1, "p_value": numbers["p_class"][place]})
        groups.append({"seed": seed, "difference": 0.4 + numbers["spread_over_seeds"][place], "p_value": 0.04})
    group = {"p_value": numbers["p_groups"], "difference": 0.4, "seeds": groups} if config.analysis.groups else None
    return {"dip_level": 0.05, "dip": dips, "class_effect": effects, "groups": group}


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


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


CLAIM = {
    "id": "C1", "text": "t", "metric": "top1", "spaces": ["darts"], "dataset": "cifar10", "expected": 90, "seeds": 3,
    "from_size": "demo", "source": "s", "assumptions": "a",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from_size": "huge"}, "C1.from_size: 'huge' is not allowed; allowed: demo, paper"),
        ({"metric": "best"}, "C1.metric: 'best' is not allowed; input should be 'optimal_cell', 'top1'"),
        ({"spaces": ["dart"]}, "C1.spaces.0: 'dart' is not allowed; allowed: nas_bench_201, darts"),
        ({"spaces": ["darts", "s1"]}, "C1.spaces: ['darts', 's1'] is not allowed; one space for metric top1"),
        ({"expected": "high"}, "C1.expected: 'high' is not allowed; input should be a valid number"),
        ({"tolerance": -1}, "C1.tolerance: -1 is not allowed; input should be greater than or equal to 0"),
        ({"seeds": 0}, "C1.seeds: 0 is not allowed"),
        ({"seed": 3}, "C1.seed: unknown key; allowed: id, text, metric"),
        ({"id": "claim one"}, "claim one.id: 'claim one' is not allowed"),
        (
            {"transfer_dataset": "imagenet"},
            "C1.transfer_dataset: 'imagenet' is not allowed; only for metric transfer_error",
        ),
        ({"metric": "transfer_error"}, "C1.transfer_dataset: None is not allowed"),
        (
            {"metric": "optimal_cell"},
            "C1.spaces: ['darts'] is not allowed; allowed for metric optimal_cell: nas_bench_201",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_claim_key_and_value(change, words, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"sizes": ["demo", "paper"], "claims": [CLAIM | change]}))
    with pytest.raises(ValueError, match=r"claims\.yaml") as error:
        read_claims(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"{path}: {words}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sizes: [demo\n", "claims.yaml: not YAML: "),
        ("sizes: [demo]\nclaims: []\nsizes: [test]\n", "key 'sizes' is there twice, in lines 1 and 3; each once"),
        ("- C1\n", "is not allowed"),
        ("sizes: [demo]\n", "claims: missing"),
        (yaml.safe_dump({"sizes": ["demo"], "claims": [CLAIM, CLAIM]}), "claims: 'C1' appears twice"),
        (yaml.safe_dump({"sizes": ["demo", "demo"], "claims": [CLAIM]}), "sizes: 'demo' appears twice"),
        (yaml.safe_dump({"sizes": ["demo"], "claims": ["C1"]}), "claims.0: 'C1' is not allowed"),
    ],
)
def test_a_file_that_is_no_list_of_claims_is_refused(text, words, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="claims") as error:
        read_claims(path)
    assert words in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: can't be read: No such file"):
        read_claims(tmp_path / "none.yaml")


def test_all_mistakes_are_told_at_once(tmp_path):
    path = tmp_path / "claims.yaml"
    second = CLAIM | {"id": "C2", "seeds": 0, "tolerance": "x"}
    path.write_text(yaml.safe_dump({"sizes": ["demo"], "claims": [CLAIM | {"place": -1}, second]}))
    with pytest.raises(ValueError, match=r"C1\.place") as error:
        read_claims(path)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == ["C1.place", "C2.tolerance", "C2.seeds"]
