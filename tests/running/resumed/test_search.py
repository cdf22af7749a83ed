"""Searches that are killed and started again end as if nothing had happened."""

import json
import math
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT
from searching import METHODS, assert_same, finished, history_of

from midas import search as module
from midas.running.checkpoint import Checkpoint, read
from midas.search import search
from midas.training.bilevel import Bilevel


class KilledError(Exception):
    pass


def test_the_same_seed_gives_the_same_files(searched, search_run, tmp_path):
    torch.manual_seed(7)  # whatever came before
    assert_same(finished(search_run(), tmp_path), searched)


def test_another_seed_gives_another_search(searched, search_run, tmp_path):
    folder = finished(search_run(seed=1), tmp_path)
    first, second = np.load(searched / "arch.npz"), np.load(folder / "arch.npz")
    assert not np.array_equal(first["p"], second["p"])
    np.testing.assert_array_equal(first["labels"], second["labels"])  # the halves are the same for all seeds
    assert history_of(searched)[0]["train_loss"] != history_of(folder)[0]["train_loss"]


def count_steps(monkeypatch, kill_at=None):
    """Count the weight steps of searches from here on, and let one of them fail after it was taken."""
    taken, step = [], Bilevel.weight_step

    def counted(self, *arguments):
        step(self, *arguments)
        taken.append(1)
        if len(taken) == kill_at:
            raise KilledError

    monkeypatch.setattr(Bilevel, "weight_step", counted)
    return taken


@pytest.mark.parametrize("kill_at", [1, 3, 5, 9])  # of three steps in each of three epochs
def test_killed_in_the_middle_and_started_again(searched, search_run, tmp_path, monkeypatch, kill_at):
    with monkeypatch.context() as patch:
        count_steps(patch, kill_at)
        with pytest.raises(KilledError):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search").exists()
    torch.manual_seed(7)
    taken = count_steps(monkeypatch)
    search(search_run(), tmp_path / "search")
    assert len(taken) == 9 - (kill_at - 1) // 3 * 3
    assert_same(tmp_path / "search", searched)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_killed_and_started_again(search_run, tmp_path, monkeypatch, method):
    run = search_run(method=METHODS[method])
    reference = finished(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        count_steps(patch, 5)
        with pytest.raises(KilledError):
            search(run, tmp_path / "search")
    search(run, tmp_path / "search")
    assert_same(tmp_path / "search", reference)


@pytest.mark.parametrize("output", ["write_dump", "write_example", "write_table", "write_metrics"])
def test_killed_while_writing_and_started_again(searched, search_run, tmp_path, monkeypatch, output):
    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(module, output, killed)
        with pytest.raises(KilledError):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search/metrics.json").exists()  # the last to be written
    taken = count_steps(monkeypatch)
    search(search_run(), tmp_path / "search")
    assert not taken
    assert_same(tmp_path / "search", searched)


def test_killed_by_the_system_and_started_again(searched, search_run, tmp_path):
    command = [sys.executable, "-m", "midas.search", str(searched / "metrics.json"), str(tmp_path / "search")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "search epoch 1/3" in line:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(60) == -signal.SIGKILL
    process.stderr.close()
    assert not (tmp_path / "search/metrics.json").exists()
    assert (tmp_path / "search_checkpoint/newest.pt").exists()
    search(search_run(), tmp_path / "search")
    assert_same(tmp_path / "search", searched)


def test_a_checkpoint_of_another_run_is_not_continued(search_run, tmp_path, monkeypatch, capsys):
    short = search_run(epochs=1)
    search(short, tmp_path / "search")
    taken = count_steps(monkeypatch)
    search(search_run(epochs=1, lr=0.01), tmp_path / "search")
    assert len(taken) == 3
    assert "config.search.lr: 0.025 there, 0.01 now" in capsys.readouterr().err
    assert (tmp_path / "search_checkpoint_aside1/newest.pt").exists()


def test_wall_time_counts_all_attempts(search_run, tmp_path):
    search(search_run(epochs=1), tmp_path / "search")
    path = tmp_path / "search_checkpoint/newest.pt"
    content = read(path)
    Checkpoint(path.parent, content["identity"]).save(content["state"] | {"seconds": 1000.0})
    (path.parent / "accepted").unlink()
    shutil.rmtree(tmp_path / "search")
    search(search_run(epochs=1), tmp_path / "search")
    assert 1000 < json.loads((tmp_path / "search/metrics.json").read_text())["cost"]["wall_seconds"] < 1100


def test_a_loss_that_is_not_finite_stops_the_search(searched, search_run, tmp_path, monkeypatch, capsys):
    def poisoned(self, x, y, averages):
        steps.append(1)
        if len(steps) == 5:
            with torch.no_grad():
                self.weights[0].fill_(math.nan)
        original(self, x, y, averages)

    steps, original = [], Bilevel.weight_step
    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", poisoned)
        with pytest.raises(ValueError, match="not finite at step 2 of epoch 2; the last checkpoint before it is kept"):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search").exists()
    state = read(tmp_path / "search_checkpoint/newest.pt")["state"]
    assert len(state["history"]) == 1
    assert all(tensor.isfinite().all() for tensor in state["supernet"].values())
    search(search_run(), tmp_path / "search")
    assert_same(tmp_path / "search", searched)


def test_a_learning_rate_far_too_large_stops_the_search(search_run, tmp_path):
    with pytest.raises(ValueError, match=r"the loss is not finite at step \d of epoch \d"):
        search(search_run(lr=1e30, clip=0), tmp_path / "search")
