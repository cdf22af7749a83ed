"""The workflow runs again what follows from changed contents, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from places import ROOT
from two_classes import CELL, configuration, two_classes


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A folder, and a call of the workflow on what lies there."""
    folder = tmp_path_factory.mktemp("workflow")
    two_classes(folder / "two.npz")

    def call(*options, fails=False, step="retrain", **changes):
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration(folder, **changes)))
        target = folder / CELL / step / "metrics.json"
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "1",
            "--nocolor",
            "--configfile",
            folder / "config.yaml",
        ]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [*command, *options, "--", target],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert fails == bool(done.returncode), done.stderr[-4000:]
        return done.stdout + done.stderr

    call()
    return folder, call


def log(folder, step):
    return last_attempt(folder / CELL / f"{step}.log")


def last_attempt(path):
    """What a log has of it; each has a heading."""
    return path.read_text().rsplit("--- ", 1)[1]


def accuracy(folder):
    return json.loads((folder / CELL / "retrain/metrics.json").read_text())["test_accuracy"]


def test_moved_data_other_threads_and_touched_files_void_nothing(workflow):
    folder, call = workflow
    own = configuration(folder)["datasets"]["two"]
    (folder / "moved").mkdir(exist_ok=True)
    shutil.copy(folder / "two.npz", folder / "moved/two.npz")  # of another time
    moved = {"two": own | {"path": str(folder / "moved/two.npz")}}
    assert "Nothing to be done" in call(threads=2, device="auto", datasets=moved)


def test_what_follows_from_a_forced_step_with_the_same_contents_is_written_again(workflow):
    folder, call = workflow
    before = (folder / CELL / "search/arch.npz").read_bytes()
    call("--forcerun", "data")
    assert "goes on at epoch 3" in log(folder, "search")
    assert "epoch 1/2" not in log(folder, "search")
    assert (folder / CELL / "search/arch.npz").read_bytes() == before


def test_a_forced_search_is_searched_and_its_log_has_the_attempts_before(workflow):
    folder, call = workflow
    before = (folder / CELL / "search.log").read_text()
    call("--forcerun", "search", step="search")
    text = (folder / CELL / "search.log").read_text()
    assert text.startswith(before)
    assert re.fullmatch(
        r"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} midas\.search \S+/search, host \S+",
        text[len(before) :].splitlines()[0],
    )
    assert "goes on" not in log(folder, "search")
    assert "epoch 1/2" in log(folder, "search")


def test_outputs_that_the_workflow_deleted_are_made_again(workflow):
    folder, call = workflow
    call("--delete-all-output")
    call()
    assert "goes on" not in log(folder, "search") + log(folder, "retrain")


def test_snakemake_killed_beside_a_search_that_ends_gets_its_outputs_without_another(tmp_path):
    two_classes(tmp_path / "two.npz")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(tmp_path)))
    target, searched = tmp_path / CELL / "search/metrics.json", tmp_path / CELL / "search.log"
    call = [sys.executable, "-m", "snakemake", "--cores", "1", "--nocolor", "--configfile", tmp_path / "config.yaml"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = partial(subprocess.run, cwd=ROOT, env=environment, check=True, capture_output=True)
    first = subprocess.Popen([*call, "--nolock", "--", target], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while not searched.exists():
        time.sleep(0.1)
    first.kill()
    first.wait()
    while not target.exists():
        time.sleep(0.1)
    before = (target.parent / "arch.npz").read_bytes()
    run([*call, "--nolock", "--rerun-incomplete", "--", target])
    assert "goes on at epoch 3" in last_attempt(searched)
    assert "epoch 1/2" not in last_attempt(searched)
    assert (target.parent / "arch.npz").read_bytes() == before


def test_where_the_data_are_gone_what_is_finished_stays(workflow):
    folder, call = workflow
    (folder / "two.npz").rename(folder / "gone.npz")
    try:
        assert "Nothing to be done" in call()
        before = (folder / CELL / "retrain/metrics.json").read_bytes()
        methods = {"midas": {"patch_size": 8}}
        assert "two.npz does not exist" in call(fails=True, methods=methods)
        assert (folder / CELL / "retrain/metrics.json").read_bytes() == before
    finally:
        (folder / "gone.npz").rename(folder / "two.npz")


def test_two_calls_with_other_configurations_write_to_other_files(workflow):
    folder, call = workflow
    before = {path: path.read_bytes() for path in folder.rglob("*.run.json")}
    assert before
    call("--summary", note="another", seeds=[0, 1])
    assert {path: path.read_bytes() for path in before} == before


def test_shuffled_labels_are_noticed(workflow):
    folder, call = workflow
    assert accuracy(folder) == 100
    two_classes(folder / "two.npz", shuffled=True)
    call()
    assert "images: " in log(folder, "search")
    assert "goes on" not in log(folder, "search") + log(folder, "retrain")
    assert accuracy(folder) < 80


def test_a_call_that_runs_nothing_writes_nothing(tmp_path):
    two_classes(tmp_path / "two.npz")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(tmp_path)))
    call = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--configfile", tmp_path / "config.yaml"]
    subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "two.npz"]


def test_from_another_folder_one_line_says_what_to_do(tmp_path):
    snakefile = ROOT / "workflow/Snakefile"
    call = [sys.executable, "-m", "snakemake", "--cores", "1", "-n"]
    for options, where in ((["-s", snakefile], tmp_path), (["-s", snakefile, "--directory", tmp_path], ROOT)):
        done = subprocess.run([*call, *options], cwd=where, capture_output=True, text=True)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert f"call snakemake in {ROOT}, not in {tmp_path}" in said
        assert "Traceback" not in said
