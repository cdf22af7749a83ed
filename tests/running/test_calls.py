"""Locks of Snakemake that nobody holds any more: removed where all is known of who held them, and left where not."""

import subprocess
import sys

import pytest
from places import ROOT

from midas.running.calls import ELSEWHERE, HERE, enter

LIVE = """
import sys, time
from pathlib import Path
from midas.running.calls import enter
enter(sys.argv[2] == "here", Path(sys.argv[1]))
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no jobs run here
    (tmp_path / "state/locks").mkdir(parents=True)
    (tmp_path / "state/locks/0.output.lock").touch()
    (tmp_path / "state/calls").mkdir()
    return tmp_path / "state"


@pytest.fixture
def call(state):
    """Start a call that lives; all are ended at the end."""
    started = []

    def start(where=HERE):
        command = [sys.executable, "-c", LIVE, str(state), where]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def locked(state):
    return bool(list((state / "locks").iterdir()))


def kill(process):
    process.kill()
    process.wait()


def test_the_lock_of_a_call_that_was_killed_is_removed_and_that_is_said(state, call):
    kill(call())
    assert "Its lock is removed" in enter(True, state)
    assert not locked(state)
    assert len(list((state / "calls").iterdir())) == 1  # its own


def test_a_lock_that_may_be_held_stays(state, call):
    assert enter(True, state) == ""  # of a call that left no word
    assert locked(state)


@pytest.mark.parametrize("living", [HERE, ELSEWHERE])
def test_a_call_that_lives_keeps_it_whatever_else_was_killed(state, call, living):
    call(living)
    kill(call())
    assert enter(True, state) == ""
    assert locked(state)


def test_jobs_of_a_killed_call_may_run_on_elsewhere_and_here(state, call, tmp_path):
    kill(call())
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "midas.search"], cwd=tmp_path)
    try:
        assert f"jobs of it run on: processes {job.pid}. Wait for them" in enter(True, state)
        assert locked(state)
    finally:
        kill(job)
    kill(call(ELSEWHERE))
    assert enter(True, state) == ""
    assert locked(state)


def test_without_locks_what_is_left_of_others_is_cleared_and_a_call_that_ends_leaves_nothing(state, call):
    (state / "locks/0.output.lock").unlink()
    kill(call(ELSEWHERE))
    code = LIVE.replace("time.sleep(60)", "time.sleep(0)")
    subprocess.run([sys.executable, "-c", code, str(state), HERE], cwd=ROOT, check=True, capture_output=True)
    assert not list((state / "calls").iterdir())
