"""Several processes of which one hangs, and Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from places import ROOT
from spoiled import ENVIRONMENT, HANGS, ended

from midas.plan.runs import TransferRun
from midas.running import limits, step, waiting
from midas.running.checkpoint import read
from midas.running.limits import RETRY, Limits, StuckError

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
    code = "import signal; from midas.running.limits import Limits, listen; listen(Limits()); "
    code += "print(signal.getsignal(signal.SIGINT))"
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
