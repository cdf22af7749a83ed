"""The parts of a slice as processes, each with a time to end at. Nothing here needs torch."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks.lease.slices import STRUCK, left
from midas.running.provenance import ROOT

GRACE = 20.0
"""Seconds after its time that a part is killed."""
BETWEEN = 120.0
"""Seconds between reports while a part runs: a machine may be gone before the last."""
PR_SET_PDEATHSIG = 1  # sys/prctl.h


class Parts:
    """Runs parts as processes and remembers whether it was asked to stop.

    Args:
        between: called every `BETWEEN` seconds while a part runs.
    """

    def __init__(self, between: Callable[[], object]):
        self.between, self.asked, self.struck = between, False, False
        self.running: list[subprocess.Popen[bytes]] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: int | FrameType | None) -> None:
        self.asked = True
        for process in self.running:
            process.terminate()

    def run(self, module: str, until: float, *several: tuple[str, ...]) -> list[str]:
        """Run a module once for each tuple of arguments, side by side, until a time; a line for each that failed.

        `struck` says whether one of them ended since a CUDA graph couldn't be recorded.
        """
        started = [(arguments, self._start(module, until, arguments)) for arguments in several]
        said, self.struck = [], False
        for arguments, process in started:
            code = self._wait(process, until + GRACE)
            reason = f"ended with code {code}" if code is not None else f"hadn't ended {GRACE:.0f} s after its time"
            if code is None:
                process.kill()
                process.wait()
            self.running.remove(process)
            self.struck |= code == STRUCK
            if code != 0 and not (self.asked and code == -signal.SIGTERM):
                log, name = _log(module, arguments), " ".join([module, *arguments])
                said.append(f"{name} {reason}: {_last_line(log)} ({log})")
        return said

    def _wait(self, process: subprocess.Popen[bytes], end: float) -> int | None:
        """The code of a process; None if it hasn't ended at a time."""
        while True:
            try:
                return process.wait(min(BETWEEN, max(0.0, left(end))))
            except subprocess.TimeoutExpired:
                if left(end) <= 0:
                    return None
                self.between()

    def _start(self, module: str, until: float, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        path, log = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", _log(module, arguments)
        log.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", f"benchmarks.lease.{module}", str(until), *arguments]
        environment = os.environ | {"PYTHONPATH": path, "TRITON_CACHE_DIR": str(Path("triton").resolve())}
        with log.open("a") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment, preexec_fn=_die_with_parent, start_new_session=True
            )  # Ctrl-C is passed on as SIGTERM
        self.running.append(process)
        if self.asked:
            process.terminate()
        return process


def _die_with_parent() -> None:
    """A part that outlived a killed command would hold its folders."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _log(module: str, arguments: tuple[str, ...]) -> Path:
    return Path("logs", f"{'_'.join([module, *arguments])}.log")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was printed"
