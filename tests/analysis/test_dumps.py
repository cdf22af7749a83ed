"""Reading of dumps: what is missing or damaged is named in one line, and no figure or table needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_results import make_config, write_results
from places import ROOT

from midas.analysis import dumps
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = Plan(make_config(tmp_path_factory.mktemp("analysis")))
    write_results(plan)
    return plan


def test_a_missing_dump_is_named_in_one_line(tmp_path: Path) -> None:
    run = PresentRun(config=make_config(tmp_path)).model_dump_json()
    call = [sys.executable, "-m", "midas.analysis.statistics", run, str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "darts/digits/midas/seed0/search/arch.npz" in done.stderr
    assert "No such file" in done.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_a_damaged_dump_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arch.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"arch\.npz: not a readable dump"):
        dumps.load_dump(path)


def test_a_dump_whose_arrays_do_not_fit_is_refused(plan: Plan, tmp_path: Path) -> None:
    with np.load(plan.folder("darts", "digits", "midas", 0) / "search/arch.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "arch.npz", **{**arrays, "labels": arrays["labels"][1:]})
    with pytest.raises(ValueError, match=r"p is \[400, 4, 14, 7\], but the other arrays ask for \[399"):
        dumps.load_dump(tmp_path / "arch.npz")
    np.savez(tmp_path / "arch.npz", **{k: v for k, v in arrays.items() if k != "kinds"})
    with pytest.raises(ValueError, match="lacks kinds"):
        dumps.load_dump(tmp_path / "arch.npz")


def test_analysis_runs_without_torch() -> None:
    steps = (f"midas.analysis.{wing}.__main__" for wing in ("statistics", "tables", "figures", "claims", "report"))
    code = f"import sys, {', '.join(steps)}\n"
    code += "sys.exit(', '.join(sorted({'torch', 'torchvision', 'timm'} & sys.modules.keys())) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"imported: {done.stderr}"
