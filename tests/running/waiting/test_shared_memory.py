"""Shared memory that is too small for batches."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT
from spoiled import ENVIRONMENT

from midas.running import waiting
from midas.running.waiting import check_shared_memory


def room(monkeypatch, size, blocks=1):
    monkeypatch.setattr(waiting.os, "statvfs", lambda _: SimpleNamespace(f_bavail=size, f_frsize=1, f_blocks=blocks))


DEFAULT = {"image": (224, 224), "batch": 1024, "workers": 8, "batches": 1251}


def test_a_batch_without_room_in_shared_memory_is_refused(monkeypatch):
    room(monkeypatch, 64 * 2**20)
    message = (
        r"transfer.workers: 8 is not allowed; a batch takes 154 MB in /dev/shm, which has 67.1 MB left .* 0 needs none"
    )
    with pytest.raises(ValueError, match=message):
        check_shared_memory(**DEFAULT)
    check_shared_memory(**DEFAULT | {"workers": 0})
    check_shared_memory(**DEFAULT | {"batch": 256})
    room(monkeypatch, 0, blocks=0)  # of no fixed size
    check_shared_memory(**DEFAULT)


@pytest.mark.parametrize(
    ("changed", "size", "most"),
    [({}, 2.4e9, "2.47 GB"), ({}, 2.5e9, None), ({"batches": 3}, 4.6e8, "462 MB"), ({"batches": 3}, 4.7e8, None)],
)
def test_less_room_than_the_workers_may_need_is_said_and_nothing_more(changed, size, most, monkeypatch, capsys):
    room(monkeypatch, size)
    check_shared_memory(**DEFAULT | changed)
    said = capsys.readouterr().err
    check_shared_memory(**DEFAULT | changed, warns=False)
    assert capsys.readouterr().err == ""
    if most is None:
        assert said == ""
    else:
        assert said.count("\n") == 1
        assert f"warning: transfer.workers: 8 may hold {most} at once in /dev/shm, which has" in said


def test_a_system_without_that_folder_is_not_asked(monkeypatch):
    monkeypatch.setattr(waiting, "SHARED", Path("/nowhere/shm"))
    check_shared_memory(**DEFAULT)


def test_a_container_with_hardly_any_shared_memory_is_told_so_at_once(run, tmp_path):
    enter = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount = "mount -t tmpfs -o size=16k none /dev/shm"
    if not shutil.which("unshare") or subprocess.run([*enter, mount], capture_output=True).returncode:
        pytest.skip("shared memory of its own needs unshare and mount")
    environment = ENVIRONMENT | {"PYTHON": sys.executable, "RUN": run.model_dump_json()}
    for workers, code in ((2, 2), (0, 0)):
        changed = run.model_copy(update={"transfer": run.transfer.model_copy(update={"workers": workers})})
        environment["RUN"] = changed.model_dump_json()
        script = f'{mount} && "$PYTHON" -m midas.transfer "$RUN" {tmp_path}/{workers}'
        done = subprocess.run([*enter, script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        if code:
            assert done.stderr.startswith(
                "error: transfer.workers: 2 is not allowed; a batch takes 0.037 MB in /dev/shm"
            )
            assert done.stderr.count("\n") == 1
