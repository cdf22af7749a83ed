"""What the key proxies asks for: its runs, what decides them, and one line for what can't be used."""

import json
from copy import deepcopy

import numpy as np
import pytest
from small_configuration import RAW, problems, write_npz, write_table

from midas.images.datasets import KNOWN
from midas.plan.check import load
from midas.plan.runs import ScoreRun, decisive
from midas.spaces.benchmark import numbers

ASKED = {"dataset": "digits", "sample": 120}
CELL = next(iter(numbers()))


def configuration(**keys):
    return deepcopy(RAW) | {"proxies": ASKED | keys}


def robust(path, columns=("arch", "pgd"), values=(CELL, "40")):
    path.write_text(f"{','.join(columns)}\n{','.join(values)}\n")
    return {"table": str(path), "columns": ["pgd"]}


def test_without_the_key_nothing_changes():
    plan = load(RAW)
    assert plan.config.proxies is None
    assert "proxies" not in decisive(plan.presented(1))["config"]


def test_a_job_is_told_its_part_and_nothing_of_the_others():
    few, many = load(configuration()), load(configuration(sample=1000, robust=None))
    assert few.config.proxies.chunks == 3
    for chunk, end in enumerate((50, 100, 120)):
        run = ScoreRun.model_validate_json(few.run("score", chunk=chunk))
        assert (run.chunk, run.proxies.sample, run.dataset.name) == (chunk, end, "digits")
    # a larger sample begins with what is scored
    assert [few.run("score", chunk=c) == many.run("score", chunk=c) for c in range(3)] == [True, True, False]


def test_parts_are_scored_again_only_where_their_numbers_may_change(tmp_path):
    table = robust(tmp_path / "robust.csv")
    plain = decisive(load(configuration()).resolved("score"))
    assert decisive(load(configuration(robust=table) | {"threads": 2}).resolved("score")) == plain
    assert decisive(load(configuration(seed=1)).resolved("score")) != plain


def test_accuracies_are_looked_up_of_the_sample_and_of_what_was_found(tmp_path):
    write_table(tmp_path / "table.csv")
    raw = configuration(robust=robust(tmp_path / "robust.csv"))
    raw |= {"nas_bench_201_table": str(tmp_path / "table.csv"), "nas_bench_201_cells": 1}
    told = json.loads(load(raw).run("accuracies"))
    assert (told["sample"], told["seed"], told["robust"]["columns"]) == (120, 42, ["pgd"])
    folders = [f"results/test/nas_bench_201/digits/{m}/seed{s}" for m in ("midas", "static") for s in (0, 1)]
    assert told["genotypes"] == [f"{folder}/decode/genotype.json" for folder in folders]
    (tmp_path / "robust.csv").write_text(f"arch,pgd\n{CELL},41\n")
    other = load(raw).contents("accuracies")
    (tmp_path / "robust.csv").write_text(f"arch,pgd\n{CELL},42\n")
    assert load(raw).contents("accuracies") != other


def test_the_data_of_scores_alone_are_made_ready():
    raw = configuration(dataset="digit_pairs")
    assert json.loads(load(raw).run("data", dataset="digit_pairs"))["dataset"]["name"] == "digit_pairs"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"dataset": "nothing"}, "proxies.dataset: data set 'nothing' does not exist"),
        ({"dataset": "digit_photos"}, "proxies.dataset: 'digit_photos' is not allowed; its images are read one by one"),
        ({"batch_size": 5000}, "proxies.batch_size: 5000 is not allowed; digits has 1437 training images"),
        ({"sample": 20000}, "proxies.sample: 20000 is not allowed; input should be less than or equal to 15625"),
        ({"sample": 1}, "proxies.sample: 1 is not allowed; input should be greater than or equal to 2"),
        ({"score": "croze"}, "proxies.score: unknown key; allowed: dataset, sample, chunk, seed"),
        (
            {"robust": {"table": "no.csv", "columns": ["pgd"]}},
            "proxies.robust: no.csv: not a readable table: No such file",
        ),
        ({"robust": {"table": "no.csv", "columns": []}}, "proxies.robust.columns: [] is not allowed"),
        (
            {"robust": {"table": "no.csv", "columns": ["c10_test_acc_200"]}},
            "proxies.robust.columns: ['c10_test_acc_200'] is not allowed; c10_test_acc_200 is taken, or there twice",
        ),
        ({"robust": {"table": "no.csv", "columns": ["a", "a"]}}, "proxies.robust.columns: ['a', 'a'] is not allowed"),
    ],
)
def test_wrong_keys_end_in_one_line(keys, line):
    found = problems(configuration(**keys))
    assert len(found) == 1, found
    assert found[0].startswith(line)


@pytest.mark.parametrize(
    ("columns", "values", "line"),
    [
        (("arch", "fgsm"), (CELL, "40"), "column pgd is missing; the table has arch, fgsm"),
        (("cell", "pgd"), (CELL, "40"), "column arch is missing; the table has cell, pgd"),
        (("arch", "pgd", "pgd"), (CELL, "40", "41"), "column pgd is there twice; each once"),
        (("arch", "pgd"), (CELL, "nan"), "line 2: pgd: nan is not allowed; percent, 0 to 100"),
        (("arch", "pgd"), (CELL, ""), "line 2: pgd: '' is not allowed; a number"),
        (("arch", "pgd"), ("|sep_conv_3x3~0|", "40"), "line 2: arch: '|sep_conv_3x3~0|' is no cell of NAS-Bench-201"),
        (("arch", "pgd"), (f"{CELL},40\n{CELL}", "40"), f"line 3: arch: {CELL} is there a second time; each cell once"),
        (("arch", "pgd"), (CELL,), "line 2: 1 values are not allowed; 2, one for each column"),
    ],
)
def test_a_robust_table_that_cannot_be_used_ends_in_one_line(columns, values, line, tmp_path):
    path = tmp_path / "robust.csv"
    found = problems(configuration(robust=robust(path, columns, values)))
    assert len(found) == 1
    assert found[0].startswith("proxies.robust: ")
    assert line in found[0]


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        (
            {"x_train": np.zeros((1, 16, 16, 3), np.uint8), "y_train": np.zeros(1, int)},
            "proxies.batch_size: 8 is not allowed; own has 1 training images",
        ),
        ({"x_train": np.full((6, 16, 16, 3), np.nan)}, "x_train is float64 [6, 16, 16, 3]; it must be uint8"),
        (
            {"side": 10, "x_train": np.zeros((9, 10, 10, 3), np.uint8), "y_train": np.arange(9) % 3},
            "proxies.dataset: images of 10x10 are not allowed; sides must be multiples of 4",
        ),
    ],
    ids=["one row", "nan", "size"],
)
def test_images_that_cannot_be_used_end_in_one_line(arrays, line, tmp_path):
    write_npz(tmp_path / "own.npz", **arrays)
    raw = configuration(dataset="own") | {"datasets": {"own": {"kind": "npz", "path": str(tmp_path / "own.npz")}}}
    [found] = problems(raw)
    assert found.startswith("proxies.")
    assert line in found


def test_scores_are_of_the_embedded_digits_without_any_data():
    assert load(configuration()).resolved("score").dataset == KNOWN["digits"]
