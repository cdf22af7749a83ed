"""The package as it is installed without the repository: its data files are in it, a search and a saved network work."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT

from midas import api
from midas.spaces.genotype import parse

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
RETRAIN = {"channels": 2, "cells": 1, "epochs": 1, "batch_size": 64, "cutout": 0}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package alone, built from a copy of the sources."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools isn't here, which builds the package")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(ROOT / "midas", source / "midas", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    how = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder / "site"),
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *how, str(source)], check=True)
    return folder / "site"


def call(installed, cwd, *arguments, code=0):
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout if code == 0 else done.stderr


def test_every_file_of_the_package_is_installed(installed):
    def files(folder):
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {path.as_posix() for path in paths if "__pycache__" not in path.parts}

    assert files(ROOT / "midas") == files(installed / "midas")
    assert [path.name for path in installed.glob("*.dist-info")] == ["midas_nas-0.1.0.dist-info"]


def test_a_search_and_a_retraining_run_without_the_repository_and_the_network_can_be_tested(installed, tmp_path):
    code = (
        "from midas.api import search; import midas, torch; "
        "found = search('nas_bench_201', 'digits', channels=2, cells=1, epochs=1, folder='search'); "
        "found.save(__import__('pathlib').Path('genotype.json')); print(midas.__file__)"
    )
    assert call(installed, tmp_path, "-c", code).strip().endswith("site/midas/__init__.py")
    run = {"genotype": "genotype.json", "retrain": RETRAIN, "seed": 0, "device": "cpu", "threads": 1}
    dataset = json.loads((tmp_path / "search/metrics.json").read_text())["config"]["dataset"]
    (tmp_path / "run.json").write_text(json.dumps(run | {"dataset": dataset}))
    call(installed, tmp_path, "-m", "midas.retrain", "run.json", "retrain")
    metrics = json.loads((tmp_path / "retrain/metrics.json").read_text())
    tested = json.loads(
        call(installed, tmp_path, "-m", "midas.evaluate", "retrain/model.safetensors", "--data", "digits")
    )
    assert tested["test_accuracy"] == pytest.approx(metrics["test_accuracy"], abs=1e-3)
    assert tested["test_loss"] == pytest.approx(metrics["test_loss"], rel=1e-4)
    wrong = call(
        installed, tmp_path, "-m", "midas.evaluate", "retrain/model.safetensors", "--data", "digit_pairs", code=2
    )
    assert wrong.startswith("error: --data: digit_pairs is not allowed (100 classes, 16x32 pixels)")
    wrong = call(installed, tmp_path, "-m", "midas.evaluate", "genotype.json", "--data", "digits", code=2)
    assert wrong.startswith("error: genotype.json: not a saved network whose metadata say what it is")
    network, told = api.load(tmp_path / "retrain/model.safetensors")
    assert (told.channels, told.cells, told.classes, told.image) == (2, 1, 10, (16, 16))
    assert not network.training
    pixels = torch.full((2, 3, 16, 16), 128, dtype=torch.uint8)
    assert network(told.normalise(pixels)).shape == (2, 10)


def test_the_names_of_the_api_do_what_they_say(tmp_path):
    assert api.space("darts").kept_edges == 2
    supernet = api.supernet("nas_bench_201", {"weights": "static"}, channels=2, cells=1, epochs=1)
    assert supernet(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    for cell in (CELL, parse(CELL)):
        assert api.build(cell, 4, 1)(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    found = api.search("nas_bench_201", "digits", seed=1, channels=2, cells=1, epochs=1, folder=tmp_path / "search")
    assert found == api.decode(tmp_path / "search/arch.npz", "nas_bench_201")
    assert np.load(tmp_path / "search/arch.npz")["p"].shape[0] > 0
    assert found == api.search("nas_bench_201", "digits", seed=1, channels=2, cells=1, epochs=1)
    with pytest.raises(ValueError, match="'dart' does not exist, did you mean darts"):
        api.space("dart")


def test_the_lines_of_the_readme_run(installed, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    said = call(installed, tmp_path, "-c", f"{code}\nimport torch\nprint(network(torch.zeros(2, 3, 32, 32)).shape)")
    cell, shape = said.splitlines()
    assert str(parse(cell)) == cell
    assert shape == "torch.Size([2, 10])"
