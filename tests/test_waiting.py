"""Waits of a transfer: for batches of workers that hang or die, with too little shared memory, for other processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from midas.config.settings import Transfer
from midas.images.datasets import Dataset
from midas.methods.decoding import random_genotype
from midas.plan.runs import TransferRun
from midas.running import limits, step, waiting
from midas.running.checkpoint import read
from midas.running.limits import RETRY, Limits, StuckError
from midas.running.waiting import check_shared_memory
from midas.spaces import get_space
from midas.training.photos import Photos
from midas.transfer import transfer

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SMALL = {
    **{
        "dataset": "grays",
        "methods": ["midas"],
        "image_size": 32,
        "channels": 4,
        "cells": 3,
        "epochs": 2,
        "batch_size": 12,
    },
    **{"warmup_epochs": 0, "auxiliary": 0.0, "precision": "float32", "workers": 2},
}
OUTPUTS = ("history.csv", "model.safetensors")

SPOILED = """
import os, signal, sys, time
from midas import waiting
from midas.photos import Photos
from midas.resolved import TransferRun
from midas.step import main
from midas.transfer import transfer

whole, seen = Photos.__getitem__, []

def spoiled(self, index):
    seen.append(index)
    late = len(seen) > int(os.environ["AFTER"])  # in the second batch of each worker
    if self.epoch == 1 and late and os.environ.get("RANK", "0") == "0":
        open(os.environ["SPOILED"], "w").close()
        {}
    return whole(self, index)

Photos.__getitem__, waiting.GRACE = spoiled, 3.0
main(TransferRun, transfer, long=True)
"""
HANGS, DIES = "time.sleep(1000)", "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A transfer of two epochs of four steps."""
    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for part, number in (("train", 24), ("val", 6)):
        for name, gray in (("dark", 80), ("light", 160)):
            folder = root / "grays" / part / name
            folder.mkdir(parents=True)
            for image in range(number):
                pixels = draw.normal(gray, 40, (36, 36, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    random_genotype(get_space("darts"), 0).save(root / "genotype.json")
    facts = {"kind": "folder", "path": str(root / "grays"), "classes": 2, "image": (32, 32), "flip": True, "padding": 0}
    common = {"genotype": str(root / "genotype.json"), "seed": 0, "device": "cpu", "threads": 1}
    return TransferRun(**common, dataset=Dataset(name="grays", **facts), transfer=Transfer(**SMALL))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Outputs of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "transfer"
    transfer(run, folder)
    return [(folder / name).read_bytes() for name in OUTPUTS]


@pytest.fixture
def start(run, tmp_path):
    """Starts a transfer whose workers are spoiled in the second epoch, and waits until they are."""
    started = []

    def begin(spoil, *launch, wait=True, **settings):
        (tmp_path / "spoiled.py").write_text(SPOILED.format(spoil))
        changed = run.model_copy(update={"transfer": run.transfer.model_copy(update=settings)})
        words = [*launch, str(tmp_path / "spoiled.py"), changed.model_dump_json(), str(tmp_path / "transfer")]
        environment = ENVIRONMENT | {"SPOILED": str(tmp_path / "spoiled"), "AFTER": "8" if launch else "16"}
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        while wait and not (tmp_path / "spoiled").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def ended(process, seconds):
    """The exit code within some seconds, and what was said."""
    begin = time.monotonic()
    _, said = process.communicate(timeout=90)
    assert time.monotonic() - begin < seconds, said
    return process.returncode, said


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


# --- shared memory


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


# --- several processes

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_two_processes_of_which_one_hangs_leave_when_they_are_asked_to(start, tmp_path):
    process = start(HANGS, *TORCHRUN, gpus=2)
    time.sleep(3)
    process.terminate()
    code, said = ended(process, 25)  # torch's launcher kills after 30
    assert code != 0
    left = ["transfer: asked to leave, and no step for 3 s; it goes on", "transfer: SIGTERM ends this attempt"]
    assert said.count(left[0]) >= 1, said
    assert sum(map(said.count, left)) == 2, said
    assert "[rank" not in said  # as torch begins the lines of a traceback
    state = read(tmp_path / "transfer_checkpoint/newest.pt")["state"]
    assert [row["epoch"] for row in state["history"]] == [1]


def test_two_processes_that_train_save_before_they_leave(start, tmp_path):
    process = start("pass", *TORCHRUN, gpus=2, epochs=400)
    process.terminate()
    _, said = ended(process, 25)
    assert said.count("transfer: SIGTERM ends this attempt") == 2, said
    assert "no step for" not in said
    state = read(tmp_path / "transfer_checkpoint/newest.pt")["state"]
    assert len(state["history"]) >= 1


def test_a_process_whose_others_never_come_leaves_when_it_is_asked_to(start, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    alone = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in alone.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    process = start("pass", wait=False, gpus=2)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(8)
    process.terminate()
    code, said = ended(process, 10)
    assert code == RETRY
    assert "asked to leave, and no step for 3 s" in said


def test_the_grace_is_shorter_than_that_of_torchs_launcher():
    assert waiting.GRACE < 30 / 2


# --- Ctrl-C


def pressed(monkeypatch, *seconds):
    """Press Ctrl-C at some times, in a process that listens."""
    before = {number: signal.getsignal(number) for number in limits.SIGNALS}
    monkeypatch.setattr(limits._Asked, "by", None)
    try:
        limits.listen(Limits())
        for second in seconds:
            monkeypatch.setattr(limits.time, "monotonic", lambda second=second: second)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        monkeypatch.undo()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_ctrl_c_asks_and_when_it_is_pressed_again_ends_the_process(monkeypatch):
    pressed(monkeypatch, 100.0, 100.5)  # once by the terminal, once passed on
    with pytest.raises(KeyboardInterrupt):
        pressed(monkeypatch, 100.0, 102.0)


def test_ctrl_c_that_a_script_has_switched_off_stays_so(run, tmp_path):
    code = "import signal; from midas.limits import Limits, listen; listen(Limits()); print(signal.getsignal(signal.SIGINT))"
    command = f'trap "" INT; exec {sys.executable} -c "{code}"'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(signal.SIG_IGN)


def test_a_step_that_is_stuck_ends_with_code_1_and_its_reason(monkeypatch, capsys, run, tmp_path):
    def stuck(*_):
        raise StuckError("no batch came")

    monkeypatch.setattr(sys, "argv", ["midas.transfer", run.model_dump_json(), str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        step.main(TransferRun, stuck)
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: no batch came\n"
