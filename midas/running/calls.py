"""Which calls of Snakemake are at work in a folder, so that the lock of one that was killed stops nobody.

Each call holds a locked file while it lives, and the system unlocks it whatever ends the call. Snakemake's locks are removed
where a call that had its jobs on this machine is gone without a word, none of its jobs runs on, and no other call lives. Jobs of
a killed call on a cluster may run on: there the lock stays until the user says `--unlock`. So it does without locks of files.
"""

from __future__ import annotations

import atexit
import os
import uuid
from pathlib import Path

import psutil

from midas.files.disk import claim

STATE = Path(".snakemake")
"""Snakemake's own folder, where it is called."""
HERE, ELSEWHERE = "here", "elsewhere"
"""Where a call's jobs run."""
_held: list[int] = []
"""Descriptors of this process's files."""


def enter(local: bool, state: Path = STATE) -> str:
    """Say that this process is at work there, and remove locks that nobody holds; what was done, in words, or nothing.

    Args:
        local: whether its jobs run on this machine.
        state: Snakemake's own folder.
    """
    calls = state / "calls"
    calls.mkdir(parents=True, exist_ok=True)
    name = f"{HERE if local else ELSEWHERE}-{uuid.uuid4().hex}"
    own, fresh = calls / name, state / f"{name}.new"
    _held.append(os.open(fresh, os.O_RDWR | os.O_CREAT, 0o666))
    claim(_held[-1], fresh)
    fresh.rename(own)  # locked before another call sees it
    atexit.register(own.unlink, missing_ok=True)
    others = [path for path in calls.iterdir() if path != own]
    gone = [path for path in others if not _lives(path)]
    locks = list((state / "locks").glob("*.lock"))
    stale = bool(locks and gone) and gone == others and all(path.name.startswith(HERE) for path in gone)
    if stale and (jobs := _jobs(Path.cwd())):
        numbers = ", ".join(map(str, jobs))
        return f"A call before this one was killed, but jobs of it run on: processes {numbers}. Wait for them, or end them."
    if stale or not locks:
        for path in [*gone, *locks]:
            path.unlink(missing_ok=True)
    return (
        "A call before this one was killed. Its lock is removed; what it left half made is made again." if stale else ""
    )


def _lives(path: Path) -> bool:
    """Whether a process holds a file, or may do so."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not claim(descriptor, path)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _jobs(folder: Path) -> list[int]:
    """Processes that do a step of this project in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "midas." in " ".join(process.cmdline()) and Path(process.cwd()) == folder and process.pid != os.getpid():
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
