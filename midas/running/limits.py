"""How long a step may take, and who asks it to leave before its end. Without torch: all steps' command line reads it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

RETRY = 75
"""Exit code of a step that left before its end and goes on when started again (EX_TEMPFAIL of sysexits.h)."""
SAVE_EVERY = 600.0
"""Seconds between checkpoints within an epoch."""
ACCEPTED = "accepted"
"""File in a checkpoint's folder: whoever called has the outputs, so that where they are gone the run is made again."""
IDENTITY = "identity.json"
"""File in a checkpoint's folder: what it is of, for whoever can't read checkpoints."""
MACHINE = "machine"
"""Key of an identity: what changes rounding alone."""
GO_ON = "set them as they were, or go_on_elsewhere: true to go on with another rounding, or delete that folder to begin anew"
"""What can be done about a run that was begun with other threads or on another device."""
GOES_ON = "ends this attempt; started again, it goes on from its checkpoint"
"""What a step says last that was asked to leave."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
INSISTS = 1.0
"""Seconds after a first Ctrl-C from which another ends the process at once; some programs pass one on twice."""


class AskedError(Exception):
    """Raised between two steps, where a process waits and was asked to leave."""


class StuckError(OSError):
    """Raised between two steps: what the next one needs doesn't come."""


class Limits(NamedTuple):
    """What a step was told about its time.

    Attributes:
        end: when it is killed, by `time.monotonic`; None for never.
        margin: seconds before that at which it leaves by itself.
        save_every: see `SAVE_EVERY`.
        workflow: whether a workflow started it, see `midas.running.durable.Keeper`.
    """

    end: float | None = None
    margin: float = 0.0
    save_every: float = SAVE_EVERY
    workflow: bool = False

    @classmethod
    def of(cls, minutes: float | None, save_every: float = SAVE_EVERY, workflow: bool = False) -> Limits:
        """Limits of a process that starts now and has so many minutes; the signal of a scheduler may come a minute early."""
        if minutes is None:
            return cls(save_every=save_every, workflow=workflow)
        return cls(time.monotonic() + 60 * minutes, min(120.0, 12 * minutes), save_every, workflow)


class _Asked:
    """Whether this process was asked to leave, and by what; and its limits."""

    limits = Limits()
    by: str | None = None
    at = 0.0
    sign = 0.0
    busy = False


def listen(limits: Limits) -> None:
    """From now on, a signal no longer ends this process: it is remembered until a step has saved."""
    _Asked.limits = limits

    def remember(number: int, _: object) -> None:
        if number == signal.SIGINT and _Asked.by == "SIGINT" and time.monotonic() - _Asked.at > INSISTS:
            raise KeyboardInterrupt
        _Asked.by, _Asked.at = signal.Signals(number).name, time.monotonic()

    for number in SIGNALS:
        if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as in what a script starts by &
            signal.signal(number, remember)


def asked() -> str | None:
    """What asks this process to leave: the name of a signal, or its time budget; None if nothing does."""
    end, margin, *_ = _Asked.limits
    if _Asked.by is None and end is not None and time.monotonic() > end - margin:
        return f"its time budget ({margin:.0f} s are left)"
    return _Asked.by


def sign_of_life() -> None:
    """A step is done, or is saved."""
    _Asked.sign = time.monotonic()


@contextmanager
def saving() -> Iterator[None]:
    """Within it, there is life."""
    _Asked.busy = True
    try:
        yield
    finally:
        _Asked.busy = False
        sign_of_life()


def since_last_sign() -> float:
    """Seconds since the last sign of life."""
    return 0.0 if _Asked.busy else time.monotonic() - _Asked.sign


def save_every() -> float:
    """Seconds between checkpoints within an epoch."""
    return _Asked.limits.save_every


def of_workflow() -> bool:
    """Whether a workflow started this process."""
    return _Asked.limits.workflow


def pause(seconds: int, where: str) -> None:
    """Wait, and leave within a second where that is asked for."""
    for _ in range(seconds):
        leave_if_asked(where)
        time.sleep(1)


def leave_if_asked(where: str) -> None:
    """Leave with `RETRY`, saying why and where, if that was asked for."""
    if reason := asked():
        print(f"{where}: {reason} {GOES_ON}", file=sys.stderr)
        sys.stderr.flush()
        sys.exit(RETRY)
