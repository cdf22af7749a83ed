"""Batches whose workers hang or die: a signal, a time budget or nobody ends the wait, and no step is lost."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
from spoiled import DIES, HANGS, OUTPUTS, ended

from midas.running import limits, waiting
from midas.running.checkpoint import read
from midas.running.limits import RETRY, Limits, StuckError
from midas.training.photos import Photos
from midas.transfer import transfer


def goes_on_to_the_same(run, folder, whole, at):
    """The state is that of a step; from there, the same outputs come about."""
    assert at == read(folder.with_name(f"{folder.name}_checkpoint") / "newest.pt")["state"]["within"]["step"]
    transfer(run, folder)
    assert [(folder / name).read_bytes() for name in OUTPUTS] == whole
    cost = json.loads((folder / "metrics.json").read_text())["cost"]
    assert cost["resumed_at"] == [f"epoch 2, step {at + 1}"]


# --- asked to leave while a batch doesn't come


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_while_no_batch_comes_and_no_step_is_lost(number, start, run, whole, tmp_path):
    process = start(HANGS)
    time.sleep(2)  # the steps whose batches came are done
    process.send_signal(number)
    code, said = ended(process, 12)
    assert code == RETRY, said
    assert f"transfer: {signal.Signals(number).name} ends this attempt" in said
    assert "Traceback" not in said
    goes_on_to_the_same(run, tmp_path / "transfer", whole, at=1)  # timm's loader holds the second batch back


def test_a_signal_to_the_workers_too_is_answered_the_same(start, run, whole, tmp_path):
    """As Slurm sends it: all processes of a job get it."""
    process = start(HANGS)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGTERM)
    code, said = ended(process, 12)
    assert code == RETRY, said
    assert "Traceback" not in said
    goes_on_to_the_same(run, tmp_path / "transfer", whole, at=1)


@pytest.fixture
def spoil(monkeypatch):
    """Spoils the workers of this process's loaders."""
    read_image = Photos.__getitem__

    def by(act):
        seen = []

        def spoiled(self, index):
            seen.append(index)
            if self.epoch == 1 and len(seen) > 16:
                act()
            return read_image(self, index)

        monkeypatch.setattr(Photos, "__getitem__", spoiled)
        monkeypatch.setattr(waiting, "LOOK_EVERY", 0.3)

    return by


def test_a_time_budget_that_ends_while_no_batch_comes_is_kept(spoil, run, whole, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        spoil(lambda: time.sleep(1000))
        patch.setattr(limits._Asked, "limits", Limits(end=time.monotonic() + 8))
        with pytest.raises(SystemExit) as left:
            transfer(run, tmp_path / "transfer")
        assert left.value.code == RETRY
        assert "transfer: its time budget" in capsys.readouterr().err
    monkeypatch.undo()
    goes_on_to_the_same(run, tmp_path / "transfer", whole, at=1)


# --- nobody asks


def test_a_batch_that_never_comes_ends_in_an_error_that_names_the_key(spoil, run, whole, tmp_path, monkeypatch):
    spoil(lambda: time.sleep(1000))
    monkeypatch.setattr(waiting, "LONGEST", -10.0)  # 2 s, with a second for each of 12 images
    with pytest.raises(
        StuckError, match=r"no batch came for [23] s; the disk may hang, .* smaller transfer\.workers needs less"
    ):
        transfer(run, tmp_path / "transfer")
    monkeypatch.undo()
    goes_on_to_the_same(run, tmp_path / "transfer", whole, at=1)


def test_a_killed_worker_is_an_error_that_names_the_key(spoil, run, whole, tmp_path, monkeypatch):
    spoil(lambda: (time.sleep(1), os.kill(os.getpid(), signal.SIGKILL)))  # the batch before is handed over
    with pytest.raises(
        StuckError, match=r"reads images was killed, for lack of memory perhaps; a smaller transfer\.workers"
    ):
        transfer(run, tmp_path / "transfer")
    monkeypatch.undo()
    goes_on_to_the_same(run, tmp_path / "transfer", whole, at=1)


def test_the_command_says_so_in_one_line(start):
    process = start(DIES)
    code, said = ended(process, 20)
    assert code == 1
    assert said.splitlines()[-1].startswith("error: a process that reads images was killed")
    assert "Traceback" not in said


def test_a_batch_may_take_minutes():
    loader = SimpleNamespace(num_workers=8, batch_size=1024, timeout=0, worker_init_fn=None)
    assert waiting.Awaited(loader, True).longest > 1500
    assert 0 < loader.timeout < 5
