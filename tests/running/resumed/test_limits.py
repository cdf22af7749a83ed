"""Long steps asked to leave, out of time, started twice."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest
from places import ROOT
from started import ENVIRONMENT, FILES, command, finish

from midas.plan.runs import SearchRun
from midas.running import limits, step
from midas.running.durable import lock
from midas.running.limits import RETRY, Limits
from midas.search import search


@pytest.mark.parametrize(
    ("name", "number"),
    [("search", signal.SIGTERM), ("search", signal.SIGINT), ("retrain", signal.SIGUSR1), ("transfer", signal.SIGTERM)],
)
def test_a_signal_is_answered_by_a_checkpoint_and_the_code_for_a_retry(name, number, demo_run, whole, tmp_path):
    run, folder = demo_run(name), tmp_path / name
    process = subprocess.Popen(
        command(name, run, folder, "--save-every", "0.01"), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    newest = tmp_path / f"{name}_checkpoint/newest.pt"
    while not newest.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == RETRY, said
    assert f"{name}: {signal.Signals(number).name} ends this attempt" in said
    assert "Traceback" not in said
    assert finish(name, run, folder) == whole(name)


def test_its_time_budget_ends_an_attempt_and_the_next_goes_on(searched, search_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(limits._Asked, "limits", Limits.of(minutes=1e-9))
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            search(search_run(), tmp_path / "search")
        assert left.value.code == RETRY
        assert "search: its time budget" in capsys.readouterr().err
    monkeypatch.setattr(limits._Asked, "limits", Limits.of(minutes=60))
    search(search_run(), tmp_path / "search")
    assert "goes on at epoch 1, step 3" in capsys.readouterr().err
    for file in FILES["search"]:
        assert (tmp_path / "search" / file).read_bytes() == (searched / file).read_bytes()


def test_the_margin_of_a_time_budget():
    for minutes, margin in ((1, 12), (10, 120), (1440, 120)):
        limits = Limits.of(minutes)
        assert limits.margin == pytest.approx(margin)
        assert limits.end == pytest.approx(time.monotonic() + 60 * minutes, abs=1)


@pytest.mark.parametrize("options", [["--minutes", "0"], ["--minutes", "x"], ["--save-every", "-1"], ["--hours", "1"]])
def test_wrong_options_end_in_the_usage(options, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["midas.search", "{}", "folder", *options])
    with pytest.raises(SystemExit) as left:
        step.main(SearchRun, search, long=True)
    assert str(left.value.code).startswith("usage: ")


# --- two at once


def test_a_second_job_on_a_folder_refuses_and_names_the_first(demo_run, tmp_path):
    folder = tmp_path / "search"
    held = lock(tmp_path / "search_checkpoint")
    done = subprocess.run(command("search", demo_run("search"), folder), cwd=ROOT, capture_output=True, text=True)
    os.close(held)
    assert done.returncode == RETRY
    assert done.stderr.strip().endswith("is at work on it; only one job may be")
    assert f"process {os.getpid()} on " in done.stderr
    assert not folder.exists()


def test_the_lock_ends_with_its_process(tmp_path):
    code = "import os, pathlib, sys; from midas.running.durable import lock; "
    code += "lock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT).returncode == -9
    descriptor = lock(tmp_path)
    with (tmp_path / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
