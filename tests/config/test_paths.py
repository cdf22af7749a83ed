"""Paths in a configuration are read as a shell reads them."""

import json

import pytest
from places import ROOT
from small_configuration import on_cifar10, problems, write_table

from midas.plan.check import load


def test_the_users_folder_and_variables_in_paths(raw, tmp_path, data_root, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OF_MINE", "data")
    on_cifar10(raw)
    (tmp_path / "split").write_text(json.dumps({"train": list(range(64)), "valid": list(range(100, 164))}))
    write_table(tmp_path / "t.csv")
    (tmp_path / "claims.yaml").write_bytes((ROOT / "config/claims.yaml").read_bytes())
    raw |= {"nas_bench_201_table": "$HOME/t.csv", "nas_bench_201_cells": 1, "cifar10_split": "${HOME}/split"}
    raw |= {"data_root": "~/$OF_MINE", "claims": "~/claims.yaml", "results_dir": "~/a$", "figures_dir": "$OF_MINE/f"}
    raw["datasets"] = {"own": {"kind": "npz", "path": "~/own.npz"}}
    config = load(raw).config
    assert (config.data_root, config.nas_bench_201_table) == (str(data_root), f"{tmp_path}/t.csv")
    assert (config.cifar10_split, config.claims) == (f"{tmp_path}/split", f"{tmp_path}/claims.yaml")
    assert (config.results_dir, config.figures_dir) == (f"{tmp_path}/a$", "data/f")
    assert config.datasets["own"].path == f"{tmp_path}/own.npz"
    monkeypatch.setenv("MIDAS_DATA", "~/${OF_MINE}")
    assert load(raw | {"data_root": None}).dataset("cifar10").path == str(data_root)


@pytest.mark.parametrize(
    "key", ["data_root", "nas_bench_201_table", "cifar10_split", "claims", "results_dir", "figures_dir"]
)
def test_a_variable_that_is_not_set_is_refused(raw, key, monkeypatch):
    monkeypatch.delenv("OF_MINE", raising=False)
    assert problems(raw | {key: "$OF_MINE/x"}) == [
        f"{key}: '$OF_MINE/x' is not allowed; the environment variable OF_MINE is not set"
    ]
    (line,) = problems(raw | {key: "~nobody_of_this_name/x"})
    assert line.startswith(f"{key}: '~nobody_of_this_name/x' is not allowed; there is no user nobody_of_this_name")


def test_a_variable_that_is_not_set_in_the_folder_of_the_environment(raw, monkeypatch):
    on_cifar10(raw)
    monkeypatch.delenv("OF_MINE", raising=False)
    monkeypatch.setenv("MIDAS_DATA", "$OF_MINE")
    unset = "MIDAS_DATA: '$OF_MINE' is not allowed; the environment variable OF_MINE is not set"
    assert problems(raw) == [f"experiments.0.dataset: {unset}"]
    monkeypatch.setenv("MIDAS_DATA", "")  # as if it weren't there
    assert load(raw).dataset("cifar10").download
