"""The command line of a step: runs that can't be read are refused in lines, a metrics file runs the same again."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from places import ROOT

from midas.plan.runs import SearchRun
from midas.running.step import main
from midas.search import search


def step_process(*arguments):
    command = [sys.executable, "-m", "midas.search", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_wrong_run_ends_in_lines_and_writes_nothing(tmp_path):
    result = step_process('{"space": 1}', tmp_path / "out")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert "error: space: 1 is not allowed; input should be a valid string" in lines
    assert "error: dataset: missing; field required" in lines
    assert list(tmp_path.iterdir()) == []


def step(monkeypatch, capsys, *arguments):
    """Exit code and error lines of the search step in this process."""
    monkeypatch.setattr(sys, "argv", ["search.py", *map(str, arguments)])
    try:
        main(SearchRun, search)
    except SystemExit as end:
        return end.code, capsys.readouterr().err
    return 0, capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(search_run, tmp_path, monkeypatch, capsys):
    run = search_run().model_copy(update={"device": "cuda"})
    code, error = step(monkeypatch, capsys, run.model_dump_json(), tmp_path / "out")
    assert code == 2
    assert error == "error: device: 'cuda' is not allowed; this machine has no usable GPU, use auto or cpu\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "RUN: not JSON"),
        ("not JSON", "RUN: not JSON"),
        ("3", ""),
        ("[]", ""),
        ("null", ""),
        ('{"provenance": {}}', ""),
        (b"\xff\xfe", ""),
    ],
)
def test_a_run_file_that_holds_no_run(tmp_path, monkeypatch, capsys, content, message):
    (tmp_path / "run").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, error = step(monkeypatch, capsys, tmp_path / "run", tmp_path / "out")
    assert code == 2
    assert all(line.startswith("error: ") for line in error.splitlines())
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_run_file_that_is_missing(tmp_path, monkeypatch, capsys):
    code, error = step(monkeypatch, capsys, tmp_path / "run", tmp_path / "out")
    assert (code, error) == (2, f"error: RUN: {tmp_path}/run can't be read: No such file or directory\n")


def test_without_arguments_the_usage_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="midas.search"))
    code, _ = step(monkeypatch, capsys)
    assert str(code).startswith("usage: python -m midas.search RUN FOLDER")


def test_a_metrics_file_runs_the_same_again(searched, tmp_path, monkeypatch, capsys):
    code, _ = step(monkeypatch, capsys, searched / "metrics.json", tmp_path / "again")
    assert code == 0
    for name in ("history.csv", "arch.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (searched / name).read_bytes()
