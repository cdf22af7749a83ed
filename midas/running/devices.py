"""The device that a step computes on; where a node has several GPUs, each job takes one that no other job has."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from midas.files.disk import claim
from midas.running.limits import leave_if_asked

_held: list[int] = []
"""Descriptors of the locks of this process, which the system closes whatever ends it."""


def pick_device(name: str) -> torch.device:
    """The device of a configuration's name.

    Where a scheduler has chosen (CUDA_VISIBLE_DEVICES) or there is but one GPU, that one. Else a free one: jobs on one node claim
    them by locks in the folder for temporary files, and wait where all are taken. Without locks, which one is a matter of chance.

    Raises:
        ValueError: "cuda" where there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' is not allowed; this machine has no usable GPU, use auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 1 or "CUDA_VISIBLE_DEVICES" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return torch.device("cuda")
    device = torch.device("cuda", _claim(count))
    torch.cuda.set_device(device)
    return device


def _claim(count: int) -> int:
    """Number of a GPU that is this process's from now on."""
    said = False
    while True:
        for number in range(count):
            path = Path(tempfile.gettempdir(), f"midas-gpu-{number}.lock")
            descriptor = _open(path)
            try:
                locked = claim(descriptor, path)
            except BlockingIOError:
                os.close(descriptor)
                continue
            _held.append(descriptor)
            return number if locked else os.getpid() % count  # without locks, not all jobs on the first
        if not said:
            print(f"all {count} GPUs are taken by other jobs; waiting for one", file=sys.stderr, flush=True)
            said = True
        leave_if_asked("waiting for a GPU")
        time.sleep(2)


def _open(path: Path) -> int:
    """A file to lock, which another user may have made: it is read, not written."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        os.fchmod(descriptor, 0o644)
        return descriptor
