"""Long steps that survive: when they save, and that one of them alone works on a folder.

A step saves at epoch ends and, within an epoch, when ten minutes have passed since it saved last. Asked to leave
(`midas.running.limits`), it saves after the training step that it is at; started again, it goes on from there. All that is drawn
at random is a function of seed, epoch and step, so a checkpoint needs no generator's state.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midas.files.disk import claim
from midas.files.writing import write_text
from midas.running.checkpoint import Checkpoint, differences
from midas.running.limits import ACCEPTED, GO_ON, IDENTITY, MACHINE, asked, of_workflow, save_every, saving


class FirstBad:
    """The first training step of an epoch whose loss wasn't finite, found without waiting for the device."""

    def __init__(self) -> None:
        self.step: Tensor | None = None

    def look(self, loss: Tensor, step: int | Tensor) -> None:
        """Look at the loss of a step, whose number may lie on the device; steps count from 0."""
        number = torch.where(torch.isfinite(loss.detach()), torch.inf, step + 1)
        if self.step is None:
            self.step = torch.full_like(number, torch.inf)
        self.step.copy_(torch.minimum(self.step, number))

    def clear(self) -> None:
        """Begin anew."""
        if self.step is not None:
            self.step.fill_(torch.inf)

    def number(self) -> float:
        """The step, counted from 1; infinite if there is none."""
        return math.inf if self.step is None else float(self.step)

    def check(self, name: str, epoch: int) -> None:
        """Epochs count from 0.

        Raises:
            ValueError: a loss that was looked at isn't finite.
        """
        if math.isfinite(self.number()):
            raise ValueError(
                f"{name}: the loss is not finite at step {self.number():.0f} of epoch {epoch + 1}; the last checkpoint before "
                f"it is kept, a smaller {name}.lr or {name}.clip may help"
            )


class Keeper:
    """What a step keeps of its work, in a folder beside that of its outputs; left as a context, it gives the folder free.

    A finished run whose outputs are gone is trained again, its checkpoint kept aside, once whoever called has `ACCEPTED` them.
    By hand that is at once. A workflow says so itself when it has seen a job end: until then it may delete outputs as
    incomplete, which the next attempt then writes again from the checkpoint.

    Args:
        folder: of the outputs.
        identity: see `midas.plan.runs.identity_of`.
        writes: False for one of several processes that train together but doesn't save.
        elsewhere: whether to go on with other threads or another device than it was begun with.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], writes: bool = True, elsewhere: bool = False):
        self.name, self.writes, self.elsewhere = folder.name, writes, elsewhere
        self.kept, self.outputs = folder.with_name(f"{folder.name}_checkpoint"), folder
        self.lock = lock(self.kept) if writes else None
        self.checkpoint = Checkpoint(self.kept, identity)
        self.start = self.saved = time.monotonic()
        self.before = 0.0
        self.resumed_at: list[str] = []
        self.said = False

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, None at the beginning; says which it is.

        Raises:
            ValueError: it was begun with other threads or on another device, and may not go on so.
        """
        state = self.checkpoint.load()
        if self.writes and (accepted := self.kept / ACCEPTED).exists():
            accepted.unlink()
            if state is not None and not (self.outputs / "metrics.json").exists():
                self.checkpoint.set_aside("is of a finished run whose outputs are gone")
                state = None
        if state is None:
            return None
        within = state.get("within")
        done = len(state["history"])
        place = f"epoch {done + 1}, step {within['step'] + 1}" if within else f"epoch {done + 1}, step 1"
        if other := "; ".join(differences(self.checkpoint.loaded.get(MACHINE), self.checkpoint.identity.get(MACHINE))):
            if not self.elsewhere:
                raise ValueError(f"{self.kept} was begun elsewhere: {other}; {GO_ON}")
            place = f"{place} ({other})"
        self.before, self.resumed_at = state["seconds"], [*state["resumed_at"], place]
        if self.writes:
            print(f"{self.name}: goes on at {place}", file=sys.stderr, flush=True)
        return state

    def done(self) -> None:
        """All outputs are written."""
        if self.writes and not of_workflow():
            (self.kept / ACCEPTED).touch()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            os.close(self.lock)

    @property
    def seconds(self) -> float:
        """Of this attempt and those before it, less what they lost."""
        return self.before + time.monotonic() - self.start

    @property
    def attempts(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"attempts": 1 + len(self.resumed_at), "resumed_at": self.resumed_at}

    def due(self, seconds: float | None = None) -> bool:
        """Whether to save now: asked to leave, or nothing was saved for a while."""
        wait = save_every() if seconds is None else min(seconds, save_every())
        return asked() is not None or time.monotonic() - self.saved >= wait

    def save(self, state: dict[str, Any]) -> None:
        """Save a state; it must hold the key "history", and "within" in the midst of an epoch."""
        if self.writes:
            with saving():
                self.checkpoint.save({**state, "seconds": self.seconds, "resumed_at": self.resumed_at})
                if not self.said:
                    write_text(self.kept / IDENTITY, json.dumps(self.checkpoint.identity, indent=1) + "\n")
                    self.said = True
        self.saved = time.monotonic()


def lock(folder: Path) -> int:
    """Claim a folder for as long as this process lives; a descriptor, which the system closes whatever ends the process.

    Where the file system has no locks, a warning takes their place.

    Raises:
        BlockingIOError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        claim(descriptor, path)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise BlockingIOError(f"{folder}: {owner} is at work on it; only one job may be") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor
