"""How far a configuration's workflow is: ``python -m midas.status CONFIG.yaml [key=value ...]``.

Reads files alone, starts and locks nothing: results, what checkpoints say of the process at work on them, and logs. Nothing here
needs torch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from midas.config.reading import read_config
from midas.plan.check import load
from midas.plan.plan import Plan
from midas.running.limits import GOES_ON
from midas.running.words import duration

State = Literal["done", "running", "stopped", "failed", "left"]
STATES: tuple[State, ...] = ("done", "running", "stopped", "failed", "left")
SILENT = 900.0
"""Seconds without a line in its log after which a job on another machine is no longer taken to run."""
SHOWN = 5
"""Last lines of a failed job's log that are shown."""
EPOCH = re.compile(r" epoch (\d+)/(\d+)(  |, step)")
OWNER = re.compile(r"process (\d+) on (\S+)")


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        step: name of its step.
        kind: what jobs that take about as long have in common.
        folder: of its outputs; its log and its checkpoint lie beside it.
    """

    step: str
    kind: str
    folder: Path

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def lines(self) -> list[str]:
        """The log of the last attempt."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return []
        return [line for line in re.split(r"(?m)^--- .*\n", text)[-1].splitlines() if line.strip()]

    def seconds(self) -> float | None:
        """What it took over all attempts; None if it isn't done."""
        try:
            return float(json.loads((self.folder / "metrics.json").read_text())["cost"]["wall_seconds"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def state(self) -> State:
        """Where it is."""
        done = self.folder / ("genotype.json" if self.step == "decode" else "metrics.json")
        if done.exists():
            return "done"
        owner = self.owner()
        if not self.log.exists() and not owner:
            return "left"
        if owner and self.runs(*owner):
            return "running"
        lines = self.lines()
        asked = any(GOES_ON in line or line.startswith("KeyboardInterrupt") for line in lines[-3:])
        if any(line.startswith(("error:", "Traceback", "slurmstepd: error")) for line in lines) and not asked:
            return "failed"
        return "running" if owner is None and not asked and self.grows() else "stopped"  # short steps claim nothing

    def owner(self) -> tuple[int, str] | None:
        """Process and machine that claimed the checkpoint last."""
        try:
            found = OWNER.search((self.folder.with_name(f"{self.folder.name}_checkpoint") / "lock").read_text())
        except OSError:
            return None
        return (int(found[1]), found[2]) if found else None

    def grows(self) -> bool:
        """Whether something was printed in the last minutes."""
        return self.log.exists() and time.time() - self.log.stat().st_mtime < SILENT

    def runs(self, process: int, machine: str) -> bool:
        """Whether a process is alive; on another machine, whether its log grows."""
        if machine != socket.gethostname():
            return self.grows()
        try:
            return f"midas.{self.step}" in Path(f"/proc/{process}/cmdline").read_text()
        except OSError:
            try:
                os.kill(process, 0)  # without /proc
            except OSError:
                return False
            return not Path("/proc/self").exists()

    def share_left(self) -> float:
        """Share of its epochs that are still to be trained, by its log."""
        found = [EPOCH.search(line) for line in self.lines()]
        epochs = [
            (int(match[1]) - (match[3] != "  "), int(match[2])) for match in found if match
        ]  # one may be under way
        return 1 - epochs[-1][0] / epochs[-1][1] if epochs else 1.0


def jobs(plan: Plan) -> Iterator[Job]:
    """All jobs but those of data sets, tables and figures."""
    for cell in plan.cells():
        here, folder = f"{cell.experiment.space} {cell.experiment.dataset}", plan.cell_folder(cell)
        if not plan.is_unsearched(cell.method):
            yield Job("search", f"search {here} {cell.method}", folder / "search")
        yield Job("decode", "decode", folder / "decode")
    for cell in plan.cells(evaluated=True):
        step = plan.evaluation(cell.experiment.space)
        here = f"{step} {cell.experiment.space} {cell.experiment.dataset}"
        yield Job(step, here, plan.cell_folder(cell) / step)
        for setting in cell.experiment.retrain_also:
            yield Job("retrain", f"{here} {setting}", plan.retrain_folder(cell, setting))
    for cell in plan.transfers():
        yield Job("transfer", f"transfer {cell.experiment.space}", plan.cell_folder(cell) / "transfer")
    for experiment in plan.costs():
        folder = plan.root / experiment.space / experiment.dataset / "cost"
        yield Job("cost", f"cost {experiment.space} {experiment.dataset}", folder)
    if plan.config.proxies:
        for chunk in range(plan.config.proxies.chunks):
            yield Job("score", "score", plan.chunk_folder(chunk))
    if plan.config.functions:
        yield Job("functions", "functions", plan.root / "functions")


def seconds_left(found: list[tuple[Job, State]]) -> tuple[float, int]:
    """Seconds of the jobs that are not done, by what done ones of their kind took, else of their step; jobs that have neither."""
    taken: dict[str, list[float]] = {}
    for job, state in found:
        if state == "done" and (seconds := job.seconds()) is not None:
            taken.setdefault(job.kind, []).append(seconds)
            taken.setdefault(job.step, []).append(seconds)
    total, unknown = 0.0, 0
    for job, state in found:
        if state == "done" or job.step == "decode":
            continue
        known = taken.get(job.kind) or taken.get(job.step)
        if known is None:
            unknown += 1
        else:
            total += sum(known) / len(known) * (1.0 if state == "left" else job.share_left())
    return total, unknown


def status(plan: Plan) -> Iterator[str]:
    """What is printed, line by line."""
    found = [(job, job.state()) for job in jobs(plan)]
    yield f"Size {plan.config.size}: {plan.config.note}"
    yield ""
    yield "            " + "".join(f"{state:>9}" for state in STATES)
    for step in dict.fromkeys(job.step for job, _ in found):
        counts = [sum(job.step == step and state == wanted for job, state in found) for wanted in STATES]
        yield f"  {step:10}" + "".join(f"{count or '':>9}" for count in counts)
    yield ""
    seconds, unknown = seconds_left(found)
    if any(state != "done" for _, state in found):
        parts = [f"{duration(seconds)}, as long as such jobs took"] if seconds or not unknown else []
        parts += [f"{unknown} jobs of whose kind none is done yet (python -m midas.estimate)"] if unknown else []
        yield f"Left, one job after another: {'; '.join(parts)}."
    else:
        page = plan.root / "report.html"
        rest = (
            f"See {page.absolute().as_uri()}" if page.exists() else f"Tables, figures or {page} are still to be made."
        )
        yield f"All of these are done. {rest}"
    for job, state in found:
        if state == "running":
            owner, lines = job.owner(), job.lines()
            yield f"running  {job.folder}{f' on {owner[1]}' if owner else ''}: {lines[-1] if lines else 'begins'}"
    wrong = [job for job, state in found if state == "failed"]
    for job in wrong:
        yield f"failed   {job.log}"
    if wrong:
        last = max(wrong, key=lambda job: job.log.stat().st_mtime if job.log.exists() else 0)
        yield from (f"    {line}" for line in last.lines()[-SHOWN:])
    if any(state in ("stopped", "failed") for _, state in found):
        yield "The same command goes on: searches, retrainings, transfers and scores from their checkpoints, all else anew."


def main() -> None:
    """Run from the command line; wrong input ends in one line a mistake and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m midas.status", description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="a top key of it, replaced")
    arguments = parser.parse_args()
    try:
        print("\n".join(status(load(read_config(arguments.config, arguments.changes)))), flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
