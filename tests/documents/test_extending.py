"""docs/extending.md is what it says: its files are made, its edits applied and its commands run, in a copy of the project."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

DOCUMENT = (ROOT / "docs/extending.md").read_text()
BLOCKS = re.findall(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
METHODS = ["midas", "sharp", "sparsemax"]
RUNS = "results/own/small_kernels/digits"


def edited(text, diff):
    """`text` with each hunk of a diff applied where its old lines stand; they must stand there once."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = [line if line[0] in " +-" else f" {line}" for line in hunk.splitlines(keepends=True)]
        old, new = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
        assert text.count(old) == 1, f"these lines must occur once:\n{old}"
        text = text.replace(old, new)
    return text


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        command, shell=True, executable="/bin/bash", cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project in which the whole document has been followed."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("midas", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config").mkdir()
    for name in ("config/claims.yaml", "environment.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name, language, text in BLOCKS:
        path = folder / name
        if language == "sh":
            run(text, folder)
        elif language == "diff":
            path.write_text(edited(path.read_text(), text))
        else:
            assert not path.exists(), f"{name} is there already"
            path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def sparsemax():
    """The function of the document's code."""
    spec = importlib.util.spec_from_loader("sparsemax", loader=None)
    module = importlib.util.module_from_spec(spec)
    exec(next(text for name, _, text in BLOCKS if name == "midas/methods/sparsemax.py"), module.__dict__)
    return module.edge_sparsemax


def test_every_block_says_what_file_it_is_or_is_a_command():
    assert len(BLOCKS) == DOCUMENT.count("\n```") / 2
    assert [language for name, language, _ in BLOCKS if not name] == ["sh"]
    assert {language for name, language, _ in BLOCKS if name} == {"yaml", "python", "diff"}


def test_an_edit_whose_lines_are_not_there_fails():
    assert edited("a\nb\nc\n", " a\n-b\n+d\n@@\n+e\n c\n") == "a\nd\ne\nc\n"
    with pytest.raises(AssertionError, match="must occur once"):
        edited("a\nb\n", " b\n+c\n a\n")


def test_the_code_is_clean(extended):
    """Files of the document alone, so that others' are not to blame."""
    files = " ".join(dict.fromkeys(name for name, *_ in BLOCKS if name.endswith(".py")))
    run(f"ruff check {files} && ruff format --check {files}", extended)


def test_new_methods_are_searched_in_the_new_space_and_decoded(extended):
    for method in METHODS:
        folder = extended / RUNS / method / "seed0"
        operations = np.load(folder / "search/arch.npz")["operations"].tolist()
        assert operations == ["skip_connect", "sep_conv_3x3", "dil_conv_3x3"]
        cells = json.loads((folder / "decode/genotype.json").read_text())["cells"]
        decoded = [operation for cell in cells.values() for node in cell for operation, _ in node]
        assert len(decoded) == 16
        assert set(decoded) <= set(operations)


def test_the_new_distribution_is_the_one_that_was_searched_with(extended):
    sparse, soft = (np.load(extended / RUNS / method / "seed0/search/arch.npz") for method in ("sparsemax", "midas"))
    assert "pi" in soft.files
    assert "pi" not in sparse.files
    assert sparse["p"].sum(-1) == pytest.approx(1, abs=1e-5)
    assert soft["p"].reshape(len(soft["p"]), -1, 14, 3)[:, :, :2].sum((-2, -1)) == pytest.approx(2, abs=1e-5)


def test_the_ablation_is_table_5(extended):
    table = pd.read_csv(extended / "results/own/tables/table_5.csv")
    rows = table[table["quantity"] == "entropy"].set_index("method")
    assert rows.index.tolist() == METHODS
    assert rows["distribution"].tolist() == ["pairs", "pairs", "sparsemax"]
    assert rows["mean"].between(0, np.log(3), inclusive="right").all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 3))
def test_sparsemax_is_the_nearest_point_of_the_simplex(sparsemax, logits, missing):
    s = torch.tensor([*logits, *[-torch.inf] * missing], dtype=torch.float64, requires_grad=True)
    p, pairs = sparsemax(s)
    assert pairs is None
    assert p.sum().item() == pytest.approx(1)
    low, high = min(logits) - 1, max(logits)  # the same by bisection of t
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if np.clip(np.subtract(logits, t), 0, None).sum() > 1 else (low, t)
    expected = np.pad(np.clip(np.subtract(logits, t), 0, None), (0, missing))
    assert p.detach().numpy() == pytest.approx(expected, abs=1e-9)
    (gradient,) = torch.autograd.grad((p * torch.arange(len(s))).sum(), s)
    assert gradient.isfinite().all()
