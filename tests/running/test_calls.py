"""Locks of Snakemake that nobody holds any more: removed where all is known of who held them, and left where not."""

import os
import socket
import subprocess
import sys
import textwrap

import psutil
import pytest

from midas.running.calls import ELSEWHERE, HERE, enter

HOST = socket.gethostname()


@pytest.fixture
def state(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").touch()
    (tmp_path / "calls").mkdir()
    return tmp_path


def call(state, process, began=0.0, where=HERE, machine=HOST):
    (state / f"calls/{machine} {process} {where}").write_text(str(began))


def locked(state):
    return bool(list((state / "locks").iterdir()))


def test_the_lock_of_a_call_that_is_gone_is_removed_and_that_is_said(state):
    call(state, 999999999)
    assert "Its lock is removed" in enter(True, state)
    assert not locked(state)
    assert [path.name for path in (state / "calls").iterdir()] == [f"{HOST} {os.getpid()} {HERE}"]


def test_a_number_that_another_process_has_now_is_no_call(state):
    call(state, os.getppid(), psutil.Process(os.getppid()).create_time() - 1)
    assert enter(True, state)
    assert not locked(state)


@pytest.mark.parametrize(
    "others",
    [
        [],  # a call that left no word
        [{"process": 999999999, "where": ELSEWHERE}],  # its jobs may run on
        [{"process": 7, "machine": "node7"}],
        [{"process": 999999999}, {"process": 7, "machine": "node7"}],
        [{"process": 999999999}, {"process": "parent"}],
    ],
    ids=str,
)
def test_a_lock_that_may_be_held_stays(state, others):
    for other in others:
        if other["process"] == "parent":
            other |= {"process": os.getppid(), "began": psutil.Process(os.getppid()).create_time()}
        call(state, **other)
    assert enter(True, state) == ""
    assert locked(state)


def test_a_call_that_ends_leaves_nothing(tmp_path):
    code = "from pathlib import Path; from midas.running.calls import enter; state = Path(r'{}'); enter(False, state)"
    more = "; assert [path.name.split()[2] for path in (state / 'calls').iterdir()] == ['elsewhere']"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code.format(tmp_path) + more)], check=True)
    assert not list((tmp_path / "calls").iterdir())
