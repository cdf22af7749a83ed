"""What a run stands for: the contents of its data, wherever they lie; and what a finished or interrupted one is good for."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from midas.config.keys import ConfigError, parse
from midas.config.settings import UserDataset
from midas.images import contents
from midas.images.datasets import bytes_in_memory, resolve
from midas.images.npz import Npz
from midas.plan.check import load
from midas.plan.plan import Plan
from midas.plan.runs import decisive
from midas.running import limits
from midas.running.checkpoint import Checkpoint, read
from midas.running.limits import ACCEPTED, Limits
from midas.search import search
from midas.training.bilevel import Bilevel

ROOT = Path(__file__).parent.parent
CELL = Path("results/two/nas_bench_201/two/midas/seed0")


def two_classes(path, shuffled=False):
    """Dark and bright noise, 200 training and 40 test images; or the same with labels that say nothing."""
    draw = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = draw.integers(0, 60, (240, 16, 16, 3)) + 150 * y[:, None, None, None]
    if shuffled:
        y = draw.permutation(y)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path, x_train=x[:200].astype("uint8"), y_train=y[:200], x_test=x[200:].astype("uint8"), y_test=y[200:]
    )


def configuration(folder, **changes):
    own = {"kind": "npz", "path": str(folder / "two.npz"), "flip": False, "padding": 0}
    search = {"channels": 4, "cells": 1, "epochs": 2, "batch_size": 32}
    experiment = {
        "space": "nas_bench_201",
        "dataset": "two",
        "methods": ["midas"],
        "search": search,
        "retrain": search | {"lr": 0.05},
    }
    places = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures")}
    return {
        **{"size": "two", "note": "two classes", "seeds": [0], "device": "cpu", "datasets": {"two": own}},
        **{"methods": {"midas": {"patch_size": 4}}, "experiments": [experiment], **places, **changes},
    }


# --- what is known of the data without reading them


def test_an_npz_is_known_by_the_check_sums_of_its_arrays_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Npz, "images", None)
    two_classes(tmp_path / "a/two.npz")
    shutil.copy(tmp_path / "a/two.npz", tmp_path / "moved.npz")
    two_classes(tmp_path / "b/two.npz", shuffled=True)

    def digest(path):
        dataset = resolve("two", {"two": UserDataset(kind="npz", path=str(path))}, None, None)
        assert (dataset.classes, dataset.image) == (2, (16, 16))
        assert bytes_in_memory(dataset) == 240 * 3 * 16 * 16
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest(tmp_path / "a/two.npz")
    assert first == digest(tmp_path / "moved.npz")
    assert first != digest(tmp_path / "b/two.npz")


def photos(folder):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                image = np.full((4, 4, 3), 10 * number + (label == "dog"), np.uint8)
                Image.fromarray(image).save(folder / part / label / f"{number}.bmp")
    return folder


def test_a_folder_is_known_by_what_its_files_hold(tmp_path, monkeypatch):
    own = photos(tmp_path / "photos")

    def digest(path):
        dataset = resolve("own", {"own": UserDataset(kind="folder", path=str(path), image_size=8)}, None, None)
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest(own)
    os.utime(own / "train/cat/0.bmp", (1, 1))
    assert digest(own) == first
    moved = own.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(contents, "of_images", None)  # times that are known aren't read again
    assert digest(moved) == first
    monkeypatch.undo()
    before = (moved / "train/cat/0.bmp").stat().st_size
    shutil.copy(moved / "train/cat/2.bmp", moved / "train/cat/0.bmp")
    assert (moved / "train/cat/0.bmp").stat().st_size == before
    assert digest(moved) != first


def test_folders_of_classes_that_change_places_are_noticed(tmp_path):
    own = photos(tmp_path / "photos")
    for file in own.rglob("*.bmp"):
        os.utime(file, (1, 1))

    def digest():
        dataset = resolve("own", {"own": UserDataset(kind="folder", path=str(own), image_size=8)}, None, None)
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest()
    for name, other in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (own / "train" / name).rename(own / "train" / other)
    assert digest() != first


def test_index_lists_and_tables_are_known_by_what_they_hold(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [0, 1], "valid": [2, 3]}')
    first = contents.of_file(str(tmp_path / "split.json"))
    shutil.copy(tmp_path / "split.json", tmp_path / "moved.json")
    assert contents.of_file(str(tmp_path / "moved.json")) == first
    (tmp_path / "split.json").write_text('{"train": [0, 2], "valid": [1, 3]}')
    assert contents.of_file(str(tmp_path / "split.json")) != first


def test_what_a_step_doesnt_read_is_no_reason_to_run_it_again(tmp_path):
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/data_batch_1").touch()
    split, table = tmp_path / "split.json", tmp_path / "table.csv"
    raw |= {"data_root": str(tmp_path), "cifar10_split": str(split), "nas_bench_201_table": str(table)}
    raw["experiments"] = [next(e for e in raw["experiments"] if e["space"] == "nas_bench_201") | {"dataset": "cifar10"}]
    plan = Plan(parse(raw | {"analysis": None}))

    def digests():
        steps = ("data", "search", "cost", "retrain", "lookup")
        return {step: plan.contents(step, "nas_bench_201", "cifar10") for step in steps}

    split.write_text('{"train": [0, 1], "valid": [2, 3]}')
    table.write_text("index,arch")
    before = digests()
    split.write_text('{"train": [0, 2], "valid": [1, 3]}')
    assert {step for step, digest in digests().items() if digest != before[step]} == {"search", "cost"}
    table.write_text("index,arch,more")
    assert {step for step, digest in digests().items() if digest != before[step]} == {"search", "cost", "lookup"}


def test_a_folder_for_a_transfer_is_looked_at_unless_it_is_too_large(tmp_path):
    photos(tmp_path / "photos")
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    own = {"kind": "folder", "path": str(tmp_path / "photos"), "image_size": 64}
    (experiment,) = (e for e in raw["experiments"] if "transfer" in e)
    experiment["transfer"] |= {"dataset": "own"}
    raw |= {
        "datasets": {"own": own},
        "results_dir": str(tmp_path / "results"),
        "experiments": [experiment],
        "analysis": None,
    }

    def digest(**changes):
        plan = Plan(parse(raw | changes))
        return plan.contents("transfer", experiment["space"], experiment["dataset"]), plan.contents(
            "data", dataset="own"
        )

    assert digest() == (digest()[0],) * 2 != ("", "")
    assert digest(open_images=False) == ("", "")


def test_a_job_asks_for_memory_by_the_size_of_its_images(tmp_path):
    x = np.zeros((2_000, 32, 32, 3), np.uint8)
    np.savez_compressed(
        tmp_path / "two.npz", x_train=x, y_train=np.arange(2_000) % 2, x_test=x[:1000], y_test=np.zeros(1000, int)
    )
    plan = load(configuration(tmp_path))
    assert plan.megabytes("two") == -(-3_000 * 32 * 32 * 3 // 10**6) == 10
    assert load(yaml.safe_load((ROOT / "config/config.yaml").read_text())).megabytes("digits") == 0


@pytest.mark.parametrize("step", ["search", "retrain"])
def test_places_and_machines_decide_no_number(step, tmp_path):
    two_classes(tmp_path / "two.npz")
    two_classes(tmp_path / "other/two.npz")

    def decides(**changes):
        raw = configuration(tmp_path, **changes)
        return decisive(load(raw).resolved(step, "nas_bench_201", "two", "midas", 0))

    moved = {"two": {"kind": "npz", "path": str(tmp_path / "other/two.npz"), "flip": False, "padding": 0}}
    assert decides() == decides(
        threads=2, device="auto", go_on_elsewhere=True, datasets=moved, results_dir=str(tmp_path / "r")
    )
    assert decides() != decides(datasets={"two": moved["two"] | {"flip": True}})


def test_workers_decide_no_number_of_a_transfer_and_processes_do():
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    transfers = []
    for change in ({}, {"workers": 1}, {"gpus": 2}):
        (experiment,) = (e for e in raw["experiments"] if "transfer" in e)
        experiment["transfer"] |= change
        transfers.append(
            decisive(load(raw).resolved("transfer", experiment["space"], experiment["dataset"], "midas", 0))
        )
    assert transfers[0] == transfers[1] != transfers[2]


# --- finished and interrupted runs


@pytest.fixture
def steps(monkeypatch):
    """Numbers of steps that searches have taken."""
    taken, whole_step = [], Bilevel.weight_step

    def counted(self, *arguments):
        taken.append(1)
        return whole_step(self, *arguments)

    monkeypatch.setattr(Bilevel, "weight_step", counted)
    return taken


def test_a_finished_run_whose_outputs_were_deleted_is_trained_again(search_run, searched, steps, tmp_path, capsys):
    search(search_run(), tmp_path / "search")
    shutil.rmtree(tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert len(steps) == 9
    assert (tmp_path / "search/arch.npz").read_bytes() == (searched / "arch.npz").read_bytes()
    assert "of a finished run whose outputs are gone" in capsys.readouterr().err
    assert (tmp_path / "search_checkpoint_aside1/newest.pt").exists()


def test_a_finished_run_with_its_outputs_is_not_trained_again(search_run, steps, tmp_path):
    search(search_run(), tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert steps == []


def test_a_workflow_deletes_what_it_did_not_see_end_and_gets_it_again(search_run, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(limits._Asked, "limits", Limits(workflow=True))
    search(search_run(), tmp_path / "search")
    shutil.rmtree(tmp_path / "search")
    steps.clear()
    search(search_run(), tmp_path / "search")
    assert steps == []
    (tmp_path / "search_checkpoint" / ACCEPTED).touch()
    shutil.rmtree(tmp_path / "search")
    search(search_run(), tmp_path / "search")
    assert len(steps) == 9


def interrupt(run, folder, after, monkeypatch):
    whole_step, taken = Bilevel.weight_step, []

    def killed(self, *arguments):
        taken.append(1)
        if len(taken) > after:
            raise KeyboardInterrupt
        return whole_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", killed)
        with pytest.raises(KeyboardInterrupt):
            search(run, folder)


def test_an_interrupted_run_whose_data_changed_begins_anew_and_says_why(
    search_run, steps, tmp_path, monkeypatch, capsys
):
    two_classes(tmp_path / "two.npz")
    run = search_run(dataset=load(configuration(tmp_path)).dataset("two"))
    interrupt(run, tmp_path / "search", 4, monkeypatch)
    two_classes(tmp_path / "two.npz", shuffled=True)
    steps.clear()
    search(run, tmp_path / "search")
    assert len(steps) == 9
    assert "belongs to another run (images: " in capsys.readouterr().err


def test_an_interrupted_run_goes_on_where_its_data_were_moved(search_run, steps, tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    run = search_run(dataset=load(configuration(tmp_path)).dataset("two"))
    interrupt(run, tmp_path / "search", 4, monkeypatch)
    (tmp_path / "two.npz").rename(tmp_path / "moved.npz")
    steps.clear()
    moved = run.dataset.model_copy(update={"path": str(tmp_path / "moved.npz")})
    search(run.model_copy(update={"dataset": moved}), tmp_path / "search")
    assert len(steps) == 6  # of 9: an epoch of 3 was kept


def test_other_threads_are_refused_before_any_job_and_allowed_by_a_key(steps, tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    raw = configuration(tmp_path)
    plan, folder = load(raw), tmp_path / CELL / "search"
    run = plan.resolved("search", "nas_bench_201", "two", "midas", 0)
    interrupt(run, folder, 4, monkeypatch)
    assert load(raw)
    with pytest.raises(ConfigError) as refused:
        load(raw | {"threads": 2})
    (line,) = refused.value.problems
    assert line.startswith(f"threads: 2 is not allowed; {folder}_checkpoint was begun with 1; ")
    assert "go_on_elsewhere" in line
    with pytest.raises(ValueError, match="was begun elsewhere: threads: 1 there, 2 now"):
        search(run.model_copy(update={"threads": 2}), folder)
    assert load(configuration(tmp_path, threads=2, seeds=[1]))  # another search doesn't mind
    other = load(raw | {"threads": 2, "go_on_elsewhere": True}).resolved("search", "nas_bench_201", "two", "midas", 0)
    steps.clear()
    search(other, folder)
    assert len(steps) == 3  # of 6: an epoch of 3 was kept
    cost = json.loads((folder / "metrics.json").read_text())["cost"]
    assert cost["resumed_at"] == ["epoch 2, step 1 (threads: 1 there, 2 now)"]
    assert load(raw)  # what is finished stays, whatever it was made with


def test_a_finished_run_whose_outputs_were_deleted_may_be_made_anew_with_other_threads(tmp_path):
    two_classes(tmp_path / "two.npz")
    raw, folder = configuration(tmp_path), tmp_path / CELL / "search"
    search(load(raw).resolved("search", "nas_bench_201", "two", "midas", 0), folder)
    shutil.rmtree(folder)
    assert load(raw | {"threads": 2})


def test_another_device_is_refused_before_any_job(tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    raw = configuration(tmp_path)
    folder = tmp_path / CELL / "search"
    interrupt(load(raw).resolved("search", "nas_bench_201", "two", "midas", 0), folder, 4, monkeypatch)
    assert load(raw | {"device": "auto"})
    with pytest.raises(ConfigError, match=r"device: 'cuda' is not allowed; .* was begun with 'cpu'"):
        load(raw | {"device": "cuda"})


def test_the_identity_that_is_read_beside_a_checkpoint_is_that_within(search_run, tmp_path):
    search(search_run(epochs=1), tmp_path / "search")
    kept = tmp_path / "search_checkpoint"
    assert json.loads((kept / "identity.json").read_text()) == read(kept / "newest.pt")["identity"]
    assert Checkpoint(kept, read(kept / "newest.pt")["identity"]).load()


# --- large data


def test_the_data_step_holds_the_images_once(tmp_path):
    def peak(count):
        path, folder = tmp_path / f"{count}.npz", tmp_path / str(count)
        x, y = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 2
        np.savez_compressed(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
        own = {"two": {"kind": "npz", "path": str(path)}}
        plan = Plan(load(configuration(tmp_path, datasets=own)).config)
        call = [sys.executable, "-m", "midas.data", plan.run("data", dataset="two"), folder]
        subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
        return json.loads((folder / "metrics.json").read_text())["cost"]["peak_memory_bytes"], x.nbytes

    (small, _), (large, size) = peak(100), peak(80_000)
    assert large - small < 1.3 * size


# --- the same by the workflow


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
    return (folder / CELL / f"{step}.log").read_text()


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


def test_a_forced_search_is_searched(workflow):
    folder, call = workflow
    call("--forcerun", "search", step="search")
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
    assert "goes on at epoch 3" in searched.read_text()
    assert "epoch 1/2" not in searched.read_text()
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
