"""Cells near a found one as files that a retraining reads."""

import json
import subprocess
import sys

import pytest
from places import ROOT
from published_cells import DARTS_V2, NO_9930

from midas.analysis.neighbourhoods import retraining
from midas.plan.runs import RetrainRun
from midas.spaces.genotype import load, parse
from midas.spaces.neighbours import darts, nas_bench_201


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["retraining", *map(str, arguments)])
    retraining.main()


@pytest.fixture
def cell(tmp_path):
    parse(DARTS_V2).save(tmp_path / "genotype.json")
    return tmp_path / "genotype.json"


def cells(folder):
    return [load(path) for path in sorted(folder.glob("neighbour*/genotype.json"))]


def test_all_neighbours_are_written(cell, tmp_path, monkeypatch, capsys):
    call(monkeypatch, cell, tmp_path / "near")
    assert capsys.readouterr().out == f"{tmp_path}/near: cells written: 264\n"
    found = cells(tmp_path / "near")
    assert (len(found), {darts.distance(load(cell), other) for other in found}) == (264, {1})
    call(monkeypatch, cell, tmp_path / "operations", "--change", "operation")
    assert len(cells(tmp_path / "operations")) == 96


def test_far_ones_are_drawn(cell, tmp_path, monkeypatch):
    call(monkeypatch, cell, tmp_path / "far", "--radius", 3, "--count", 5, "--seed", 1)
    found = cells(tmp_path / "far")
    assert (len(found), {darts.distance(load(cell), other) for other in found}) == (5, {3})


def test_of_nas_bench_201_all_are_written(tmp_path, monkeypatch):
    parse(NO_9930).save(tmp_path / "genotype.json")
    call(monkeypatch, tmp_path / "genotype.json", tmp_path / "near")
    assert {nas_bench_201.distance(parse(NO_9930), other) for other in cells(tmp_path / "near")} == {1}
    assert len(cells(tmp_path / "near")) == 24


def test_a_neighbour_gets_the_settings_data_and_seed_of_the_found_cell(cell, tmp_path, monkeypatch, few_digits):
    retrain = {"channels": 4, "cells": 3, "epochs": 2, "auxiliary": 0}
    run = RetrainRun(genotype=str(cell), dataset=few_digits, seed=3, device="cpu", threads=1, retrain=retrain)
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"test_accuracy": 50, "config": run.model_dump(mode="json"), "provenance": {}}))
    call(monkeypatch, cell, tmp_path / "near", "--radius", 2, "--count", 2, "--like", metrics)
    for number in (0, 1):
        folder = tmp_path / f"near/neighbour{number}"
        told = RetrainRun.model_validate_json((folder / "retrain.run.json").read_text())
        assert told == run.model_copy(update={"genotype": str(folder / "genotype.json")})
        assert load(folder / "genotype.json") != load(cell)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--space", "nas_bench_201"], "genotype.json: a cell of the form darts is not allowed; one of nas_bench_201"),
        (["--space", "s2"], "dil_conv_3x3 from node 2 to node 5 of the normal cell is not in s2; allowed: "),
        (["--radius", "0"], "radius: 0 is not allowed; 1 to 16, the number of edges"),
        (["--count", "0", "--radius", "2"], "count: 0 is not allowed; 1 to 31,200, the cells at distance 2"),
        (
            ["--change", "source", "--radius", "2"],
            "--change: not allowed with --count, another --radius than 1, or a cell",
        ),
        (["--like", "none.json"], "none.json: not a readable metrics file: No such file or directory"),
    ],
)
def test_wrong_input_is_one_line(cell, tmp_path, monkeypatch, capsys, arguments, line):
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, cell, tmp_path / "near", *arguments)
    assert caught.value.code == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert found.startswith("error: ")
    assert line in found


def test_metrics_of_another_step_are_refused(cell, tmp_path, monkeypatch, capsys):
    (tmp_path / "metrics.json").write_text(json.dumps({"config": {"space": "darts"}}))
    with pytest.raises(SystemExit):
        call(monkeypatch, cell, tmp_path / "near", "--like", tmp_path / "metrics.json")
    assert capsys.readouterr().err == f"error: {tmp_path}/metrics.json: not the metrics.json of a retraining\n"


def test_it_needs_no_torch(cell, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from midas.analysis.neighbourhoods.retraining import main; main()"
    call = [sys.executable, "-c", code, cell, tmp_path / "near", "--radius", "2", "--count", "1"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/near: cells written: 1\n"), done.stderr


def test_neighbours_of_an_earlier_call_are_not_written_over(cell, tmp_path, monkeypatch, capsys):
    call(monkeypatch, cell, tmp_path / "near", "--change", "operation")
    before = [str(found) for found in cells(tmp_path / "near")]
    with pytest.raises(SystemExit):
        call(monkeypatch, cell, tmp_path / "near", "--radius", 3, "--count", 5)
    assert f"{tmp_path}/near: not allowed; it holds neighbours of an earlier call" in capsys.readouterr().err
    assert [str(found) for found in cells(tmp_path / "near")] == before
