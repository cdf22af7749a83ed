"""File systems without locks or a way to write through: played by errors of the calls, and by a C library without them."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from benchmarks.lease.slices import Rows
from midas.files import disk
from midas.running.checkpoint import Checkpoint
from midas.running.durable import Keeper, lock

LACKING = ["ENOSYS", "EOPNOTSUPP", "EINVAL"]
BROKEN = ["EIO", "ENOSPC"]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(disk, "_said", set())


@pytest.fixture
def answers(monkeypatch):
    """Makes a call answer by an error."""

    def answer(owner, name, code):
        def call(*_):
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

        monkeypatch.setattr(owner, name, call)

    return answer


@pytest.mark.parametrize("code", [*LACKING, "ENOLCK", "EBADF"])
def test_without_locks_a_step_goes_on_after_one_warning(code, answers, tmp_path, capsys):
    answers(fcntl, "flock", code)
    for _ in range(2):
        with Keeper(tmp_path / "search", {}) as keeper:
            keeper.save({"history": []})
            assert keeper.load() == {"history": [], "seconds": pytest.approx(0, abs=9), "resumed_at": []}
    said = capsys.readouterr().err
    assert said.count("warning: the file system of ") == 1
    assert f"{tmp_path}/search_checkpoint/lock has no locks: nothing stops two jobs" in said
    assert os.strerror(getattr(errno, code)) in said


@pytest.mark.parametrize("code", LACKING)
def test_a_disk_that_cannot_be_written_through_is_no_obstacle(code, answers, tmp_path, capsys):
    answers(os, "fsync", code)
    checkpoint, rows = Checkpoint(tmp_path / "kept", {}), Rows(str(tmp_path / "fast"))
    for number in (1, 2):
        checkpoint.save({"number": number})
        rows.add(number=number)
        assert checkpoint.load() == {"number": number}
    assert rows.read() == [{"number": 1}, {"number": 2}]
    assert sorted(path.name for path in checkpoint.folder.iterdir()) == ["newest.pt", "previous.pt"]
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert f"{checkpoint.folder}/writing.pt can't be told to write at once: a power failure" in said


@pytest.mark.parametrize("code", [*LACKING, "EACCES", "EISDIR"])
def test_a_folder_that_cannot_be_opened_is_no_obstacle(code, tmp_path, monkeypatch, capsys):
    whole = os.open

    def opened(path, flags, *more):
        if Path(path).is_dir():
            raise OSError(getattr(errno, code), "no folders")
        return whole(path, flags, *more)

    monkeypatch.setattr(os, "open", opened)
    checkpoint = Checkpoint(tmp_path / "kept", {})
    for number in (1, 2):
        checkpoint.save({"number": number})
    assert checkpoint.load() == {"number": 2}
    assert capsys.readouterr().err.count("warning: ") == 1


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_disk_is_still_an_error_and_what_was_saved_stays(code, answers, tmp_path):
    checkpoint = Checkpoint(tmp_path / "kept", {})
    checkpoint.save({"number": 1})
    answers(os, "fsync", code)
    with pytest.raises(OSError, match="earlier checkpoints are kept") as raised:
        checkpoint.save({"number": 2})
    assert raised.value.errno == getattr(errno, code)
    assert checkpoint.load() == {"number": 1}
    with pytest.raises(OSError, match=os.strerror(getattr(errno, code))):
        disk.flush_folder(tmp_path)
    answers(fcntl, "flock", code)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, code))):
        lock(tmp_path / "other")


def test_a_folder_that_is_gone_is_still_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        disk.flush_folder(tmp_path / "gone")


SHIM = """
#include <errno.h>
int flock(int, int) { errno = ENOSYS; return -1; }
int fsync(int) { errno = EINVAL; return -1; }
"""


def test_a_search_on_such_a_file_system_ends_with_the_same_numbers(searched, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("calls are taken away by a library that is loaded first")
    (tmp_path / "shim.c").write_text(SHIM)
    shim = str(tmp_path / "shim.so")
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c"], check=True)
    words = [sys.executable, "-m", "midas.search", str(searched / "metrics.json"), str(tmp_path / "search")]
    environment = os.environ | {"LD_PRELOAD": shim}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(" ", 1)[0] for line in done.stderr.splitlines() if "warning" in line] == [
        f"warning: the file system of {tmp_path}/search_checkpoint/lock has no locks: nothing stops two jobs from working on "
        "one folder or GPU (Function not",
        f"warning: the file system of {tmp_path}/search_checkpoint/writing.pt can't be told to write at once: a power failure "
        "may cost the newest checkpoint (Invalid",
    ]
    for name in ("history.csv", "arch.npz"):
        assert (tmp_path / "search" / name).read_bytes() == (searched / name).read_bytes()
