"""Which device a step takes; several GPUs are played by what torch says of them."""

import errno
import fcntl
import os

import pytest
import torch

from midas.running import devices, limits
from midas.running.devices import pick_device

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu():
    assert pick_device("cpu") == pick_device("auto") == CPU
    with pytest.raises(ValueError, match="device: 'cuda' is not allowed; this machine has no usable GPU"):
        pick_device("cuda")


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """Two GPUs, whose locks lie in a folder of their own; returns the numbers that were chosen."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(device.index))
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_held", held := [])
    yield chosen
    for descriptor in held:
        os.close(descriptor)


def test_each_job_takes_a_free_one(two_gpus):
    assert [pick_device("auto"), pick_device("cuda")] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert two_gpus == [0, 1]


def test_a_third_job_waits_and_says_so_until_one_is_given_free(two_gpus, monkeypatch, capsys):
    waits = []

    def sleep(_):
        waits.append(1)
        if len(waits) == 3:
            os.close(devices._held.pop(0))

    pick_device("auto"), pick_device("auto")
    monkeypatch.setattr(devices.time, "sleep", sleep)
    assert pick_device("auto") == torch.device("cuda", 0)
    assert len(waits) == 3
    assert capsys.readouterr().err == "all 2 GPUs are taken by other jobs; waiting for one\n"


@pytest.mark.parametrize(("name", "value"), [("CUDA_VISIBLE_DEVICES", "1"), ("WORLD_SIZE", "2")])
def test_what_a_scheduler_or_torchrun_has_chosen_is_left_alone(two_gpus, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert pick_device("auto") == pick_device("auto") == torch.device("cuda")
    assert two_gpus == []


def test_the_only_gpu_is_shared(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == pick_device("auto") == torch.device("cuda")


def test_without_locks_jobs_are_spread_over_the_gpus_by_their_number(two_gpus, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    for number, device in ((41, 1), (42, 0)):
        monkeypatch.setattr(devices.os, "getpid", lambda number=number: number)
        assert pick_device("auto") == torch.device("cuda", device)


def test_a_job_that_waits_for_a_gpu_leaves_when_it_is_asked_to(two_gpus, monkeypatch, capsys):
    pick_device("auto"), pick_device("auto")
    monkeypatch.setattr(devices.time, "sleep", lambda _: monkeypatch.setattr(limits._Asked, "by", "SIGTERM"))
    with pytest.raises(SystemExit) as left:
        pick_device("auto")
    assert left.value.code == limits.RETRY
    assert "waiting for a GPU: SIGTERM ends this attempt" in capsys.readouterr().err
