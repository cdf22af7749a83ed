"""The table of NAS-Bench-201 and the split of CIFAR-10 that a configuration names."""

import gzip
import json

import pytest
from small_configuration import on_cifar10, problems, write_table

from midas.plan.check import load
from midas.spaces.benchmark import CELLS, COLUMNS


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_with_a_table_nothing_needs_to_be_retrained(raw, tmp_path, opener):
    write_table(tmp_path / "table", [*COLUMNS, "another"], opener)
    del raw["experiments"][0]["retrain"]
    plan = load(raw | {"nas_bench_201_table": str(tmp_path / "table"), "nas_bench_201_cells": 1})
    assert plan.evaluation("nas_bench_201") == "lookup"
    assert plan.evaluation("darts") == "retrain"
    assert json.loads(plan.run("lookup", "nas_bench_201", "digits", "midas", 1))["table"] == str(tmp_path / "table")


def test_a_table_without_a_column(raw, tmp_path):
    write_table(tmp_path / "t.csv", [name for name in COLUMNS if name != "c100_test_acc_200"])
    (line,) = problems(raw | {"nas_bench_201_table": str(tmp_path / "t.csv")})
    missing = f"nas_bench_201_table: {tmp_path}/t.csv: column c100_test_acc_200 is missing; needed: index, arch, "
    assert line.startswith(missing)


def test_a_table_that_is_missing(raw):
    (line,) = problems(raw | {"nas_bench_201_table": "/no/t.csv"})
    assert line.startswith("nas_bench_201_table: /no/t.csv: not a readable table: ")


def test_a_table_that_lost_cells_is_refused_after_the_look_ups_too(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    raw |= {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1}
    for cell in load(raw).cells("nas_bench_201", evaluated=True):
        folder = load(raw).cell_folder(cell) / "lookup"
        folder.mkdir(parents=True)
        (folder / "metrics.json").touch()
    assert load(raw)
    assert problems(raw | {"nas_bench_201_cells": 2})
    (tmp_path / "t.csv").unlink()  # what is published is redrawn without it
    assert load(raw)


def test_a_table_must_have_all_cells_unless_a_key_says_how_many(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    raw["nas_bench_201_table"] = table = str(tmp_path / "t.csv")
    fewer = "15,625, each once; the key nas_bench_201_cells says how many a smaller table has"
    assert problems(raw) == [f"nas_bench_201_table: {table}: 1 cells are not allowed; {fewer}"]
    assert problems(raw | {"nas_bench_201_cells": 2}) == [
        f"nas_bench_201_table: {table}: 1 cells are not allowed; 2, each once"
    ]
    assert load(raw | {"nas_bench_201_cells": 1}).config.nas_bench_201_cells == 1
    assert problems(raw | {"nas_bench_201_cells": CELLS + 1})[0].startswith("nas_bench_201_cells: 15626 is not allowed")


def test_a_wrong_line_of_a_table_ends_in_a_line(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("50", "nan", 1))
    (line,) = problems(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})
    wrong = "c10_valid_acc_200: nan is not allowed; percent, 0 to 100"
    assert line == f"nas_bench_201_table: {tmp_path}/t.csv, line 2: {wrong}"


def flip_bits(content):
    return content[:30] + bytes(byte ^ 0xFF for byte in content[30:60]) + content[60:]


@pytest.mark.parametrize("damage", [lambda content: content[:40], flip_bits], ids=["cut short", "flipped"])
def test_a_damaged_table(raw, tmp_path, damage):
    path = tmp_path / "t.csv.gz"
    write_table(path, opener=gzip.open)
    path.write_bytes(damage(path.read_bytes()))
    (line,) = problems(raw | {"nas_bench_201_table": str(path)})
    assert line.startswith(f"nas_bench_201_table: {path}: not a readable table: ")


SPLITS = {
    "damaged gzip": gzip.compress(b'{"train": [1], "valid": [2]}')[:-12],
    "no JSON": b"train: [1]",
    "no valid": b'{"train": [1]}',
    "no lists": b'{"train": 1, "valid": 2}',
    "no numbers": b'{"train": ["x"], "valid": [2]}',
    "no mapping": b"[1, 2]",
    "no text": b"\xff\xfe",
}
SPLITS |= {
    "an image twice": b'{"train": [1, 2], "valid": [2]}',
    "an image below 0": b'{"train": [1, -2], "valid": [2]}',
    "another type": b'{"train": ["float", ["1"]], "valid": ["int", ["2"]]}',
    "no number in the authors' form": b'{"train": ["int", ["1.5"]], "valid": ["int", ["2"]]}',
    "an empty list in the authors' form": b'{"train": ["int", []], "valid": ["int", ["2"]]}',
    "UTF-16 without a mark": '{"train": [1], "valid": [2]}'.encode("utf-16-le"),
    "Zstandard": b"(\xb5/\xfd" + bytes(9),
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_damaged_split_file(raw, tmp_path, split):
    (tmp_path / "split").write_bytes(SPLITS[split])
    (line,) = problems(raw | {"cifar10_split": str(tmp_path / "split")})
    text = f"cifar10_split: {tmp_path}/split: not a JSON file with the index lists train and valid: "
    assert line.startswith(text)


def test_the_split_is_for_cifar10_alone(raw, tmp_path, data_root):
    (tmp_path / "split").write_text(json.dumps({"train": list(range(64)), "valid": list(range(100, 164))}))
    raw["experiments"][0]["dataset"] = "cifar10"
    plan = load(raw | {"cifar10_split": str(tmp_path / "split"), "data_root": str(data_root)})
    assert plan.dataset("cifar10").split == str(tmp_path / "split")
    assert plan.dataset("digits").split is None
    assert plan.dataset("cifar100").split is None


def test_a_split_of_images_that_do_not_exist(raw, tmp_path, data_root):
    path = tmp_path / "split"
    lists = {"train": list(range(64)), "valid": list(range(49_900, 50_000))}
    on_cifar10(raw)
    raw |= {"data_root": str(data_root), "cifar10_split": str(path)}
    path.write_text(json.dumps(lists))
    load(raw)
    path.write_text(json.dumps(lists | {"train": [*lists["train"], 50_000]}))
    assert problems(raw) == [f"cifar10_split: {path}: image 50000 does not exist; CIFAR-10 has 0 to 49999"]
