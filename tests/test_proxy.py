"""``python -m midas.proxy``: its scores, and one line for each wrong input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT
from small_configuration import write_npz

from midas import proxy
from midas.spaces.genotype import parse

CELL = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|nor_conv_1x1~2|"
DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('dil_conv_5x5', 1), ('sep_conv_5x5', 2), "
    "('skip_connect', 0), ('skip_connect', 0), ('avg_pool_3x3', 1)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
SMALL = ["--channels", "2", "--cells", "3", "--batch-size", "4"]


def call(monkeypatch, capsys, *arguments):
    """Exit code, what was printed, and the error's lines."""
    monkeypatch.setattr(sys, "argv", ["proxy", *map(str, arguments)])
    try:
        proxy.main()
        code = 0
    except SystemExit as left:
        code = left.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def wrong(monkeypatch, capsys):
    """The one line that a wrong call ends in."""

    def line(*arguments):
        code, out, err = call(monkeypatch, capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    return line


@pytest.mark.parametrize("cell", [CELL, DARTS])
def test_a_cell_is_scored_as_text_and_as_a_file(cell, monkeypatch, capsys, tmp_path):
    (tmp_path / "cell.json").write_text("")
    parse(cell).save(tmp_path / "cell.json")
    results = []
    for given in (cell, tmp_path / "cell.json"):
        code, out, _ = call(monkeypatch, capsys, given, "--data", "digits", *SMALL, "--out", tmp_path / "out.json")
        assert code == 0
        assert json.loads((tmp_path / "out.json").read_text()) == json.loads(out)
        results.append(json.loads(out))
    assert results[0]["scores"] == results[1]["scores"]
    assert set(results[0]["scores"]) == set(results[0]["meaning"])
    assert all(value > 0 for value in results[0]["scores"].values())


def test_the_command_itself_runs():
    call = [sys.executable, "-m", "midas.proxy", CELL, "--data", "digits", "--channels", "2", "--cells", "1"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["params"] > 0


def test_what_is_no_cell_is_named(wrong, tmp_path):
    assert "nowhere.json: " in wrong("nowhere.json", "--data", "digits")
    assert "operation 'conv' is not allowed" in wrong(CELL.replace("none", "conv"), "--data", "digits")
    (tmp_path / "cell.json").write_text("{")
    assert "not a genotype file" in wrong(tmp_path / "cell.json", "--data", "digits")


def test_a_cell_of_another_space_is_refused(wrong):
    assert "is not one of nas_bench_201; it has the form of darts" in wrong(
        DARTS, "--data", "digits", "--space", "nas_bench_201"
    )
    assert "it has the form of nas_bench_201" in wrong(CELL, "--data", "digits", "--space", "s2")
    error = wrong(DARTS, "--data", "digits", "--space", "s2")
    assert (
        "max_pool_3x3 from node 0 to node 3 of the normal cell is not one of s2; allowed there: skip_connect" in error
    )


def test_a_data_set_with_nan_is_refused(wrong, tmp_path):
    x = np.full((6, 16, 16, 3), np.nan, np.float32)
    write_npz(tmp_path / "own.npz", x_train=x)
    assert "own.npz: not a usable npz data set: x_train is float32" in wrong(CELL, "--data", tmp_path / "own.npz")
    write_npz(tmp_path / "own.npz", y_train=np.full(6, np.nan))
    assert "y_train must hold a class number" in wrong(CELL, "--data", tmp_path / "own.npz")


def test_a_data_set_of_one_row_is_refused(wrong, tmp_path):
    write_npz(tmp_path / "own.npz", x_train=np.zeros((1, 16, 16, 3), np.uint8), y_train=np.zeros(1, int))
    error = wrong(CELL, "--data", tmp_path / "own.npz")
    assert "batch_size: 8 is not allowed; own has 1 images" in error


def test_other_data_that_cannot_be_used_are_named(wrong, tmp_path, monkeypatch):
    monkeypatch.delenv("MIDAS_DATA", raising=False)
    assert "data set 'nothing' does not exist" in wrong(CELL, "--data", "nothing")
    assert "name one by --data-root or MIDAS_DATA" in wrong(CELL, "--data", "cifar10")
    assert "has no cifar-10-batches-py" in wrong(CELL, "--data", "cifar10", "--data-root", tmp_path)
    assert "its images are read one by one" in wrong(CELL, "--data", "digit_photos")
    write_npz(tmp_path / "own.npz", side=10)
    assert "images of 10x10 are not allowed; multiples of 4" in wrong(CELL, "--data", tmp_path / "own.npz")


def test_a_folder_of_cifar10_is_read(monkeypatch, capsys, cifar10):
    code, out, _ = call(monkeypatch, capsys, CELL, "--data", "cifar10", "--data-root", cifar10, *SMALL)
    assert code == 0
    assert json.loads(out)["dataset"] == "cifar10"


def test_a_file_that_cannot_be_written_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(monkeypatch, capsys, CELL, "--data", "digits", *SMALL, "--out", tmp_path / "file/out.json")
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
