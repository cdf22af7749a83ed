"""Which calls of Snakemake are at work in a folder, so that the lock of one that was killed stops nobody.

Each call leaves a file while it lives. Locks are removed where a call that had its jobs on this machine is gone without a word,
and no other call lives. Jobs of a killed call on a cluster may run on: there the lock stays until the user says `--unlock`.
A call in another machine's process table counts as living.
"""

from __future__ import annotations

import atexit
import os
import socket
from pathlib import Path

import psutil

STATE = Path(".snakemake")
"""Snakemake's own folder, where it is called."""
HERE, ELSEWHERE = "here", "elsewhere"
"""Where a call's jobs run."""


def enter(local: bool, state: Path = STATE) -> str:
    """Say that this process is at work there, and remove locks that nobody holds; what was done, in words, or nothing.

    Args:
        local: whether its jobs run on this machine.
        state: Snakemake's own folder.
    """
    calls = state / "calls"
    calls.mkdir(parents=True, exist_ok=True)
    own = calls / f"{socket.gethostname()} {os.getpid()} {HERE if local else ELSEWHERE}"
    own.write_text(str(psutil.Process().create_time()))
    atexit.register(own.unlink, missing_ok=True)
    others = [path for path in calls.iterdir() if path != own]
    gone = [path for path in others if not _lives(path)]
    locks = list((state / "locks").glob("*.lock"))
    stale = bool(locks and gone) and gone == others and all(path.name.split()[-1] == HERE for path in gone)
    if stale or not locks:
        for path in [*gone, *locks]:
            path.unlink(missing_ok=True)
    return (
        "A call before this one was killed. Its lock is removed; what it left half made is made again." if stale else ""
    )


def _lives(path: Path) -> bool:
    """Whether the process that left a file is alive: its number may have become another's."""
    machine, process, _ = path.name.rsplit(" ", 2)
    if machine != socket.gethostname():
        return True
    try:
        return psutil.Process(int(process)).create_time() == float(path.read_text())
    except (psutil.NoSuchProcess, ValueError, OSError):
        return False
