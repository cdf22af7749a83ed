"""A GPU for a quarter of an hour, used to its last second: checks, measurements and searches that the next slice goes on with.

``python -m benchmarks.lease --minutes 12 --out FOLDER [--resume FOLDER] [--data FOLDER] [--table FILE] [--split FILE]
[--device cuda|cpu] [--only PART ...] [--other-code]``

Each part is a process, so that what a device does to one ends no other, with a share of the time: right (a minute), fast (a
minute and a half), search (all that is left). What a part knows is on disk at once. The report is written in any case, and in
FOLDER/carry what the next slice needs and what is published. SIGTERM and Ctrl-C save and report; after SIGKILL the same command
goes on. On a CPU without --data sizes are tiny, on embedded images. Needs torch, timm, scipy, pandas, scikit-learn, matplotlib
and pydantic, and no Snakemake.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from benchmarks.lease import packing, report
from benchmarks.lease.slices import PARTS, SEARCHED, WAYS, Rows, Slice, left, right_ways
from midas.check import load, read_config
from midas.config import ConfigError
from midas.provenance import ROOT

SHARES = {"right": (60.0, 1 / 9), "fast": (90.0, 1 / 6)}
"""Seconds of a part, and the most of a slice."""
AT_THE_END = (30.0, 1 / 15)
"""Likewise of report and packing."""
GRACE = 20.0
"""Seconds after its time that a part is killed."""
TINY: dict[str, Any] = {"channels": 4, "cells": 1, "epochs": 3, "batch_size": 128}
PR_SET_PDEATHSIG = 1  # sys/prctl.h


def share(of: tuple[float, float], minutes: float) -> float:
    """Seconds: so many, or so much of a slice if it is short."""
    return min(of[0], 60 * minutes * of[1])


class Parts:
    """Runs parts as processes and remembers whether it was asked to stop.

    Args:
        end: of the slice, by `time.time`.
    """

    def __init__(self, end: float):
        self.end, self.asked = end, False
        self.running: list[subprocess.Popen[bytes]] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: int | FrameType | None) -> None:
        self.asked = True
        for process in self.running:
            process.terminate()

    def run(self, module: str, until: float, *several: tuple[str, ...]) -> list[str]:
        """Run a module once for each tuple of arguments, side by side, until a time; a line for each that failed."""
        started = [(arguments, self._start(module, until, arguments)) for arguments in several]
        said = []
        for arguments, process in started:
            name = " ".join([module, *arguments])
            try:
                code = process.wait(max(0.0, left(until)) + GRACE)
                reason = f"ended with code {code}"
            except subprocess.TimeoutExpired:
                process.kill()
                code, reason = process.wait(), f"hadn't ended {GRACE:.0f} s after its time"
            self.running.remove(process)
            if code and not (self.asked and code == -signal.SIGTERM):
                said.append(f"{name} {reason}: {_last_line(_log(module, arguments))} ({_log(module, arguments)})")
        return said

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


def chosen_way() -> str | None:
    """The right way whose search step takes the least time; the last right one where none was measured.

    Searches that go on keep the order of their parameters, which merged edges change.
    """
    right, rows = right_ways(SEARCHED), Rows("fast").read()
    if Path("config.yaml").exists():
        before = yaml.safe_load(Path("config.yaml").read_text())["experiments"][0]["search"]["merge_edges"]
        right = [way for way in right if WAYS[way]["merge_edges"] == before] or right
    taken = {
        r["way"]: r["seconds"] for r in rows if r.get("kind") == "step" and r["space"] == SEARCHED and "seconds" in r
    }
    measured = [way for way in right if way in taken]
    return min(measured, key=taken.__getitem__) if measured else right[-1] if right else None


def write_config(asked: Slice, way: str | None, paths: dict[str, str]) -> None:
    """Write the configuration of the searches, which the workflow can read too."""
    raw = read_config(ROOT / "config/lease.yaml", []) | {"device": asked.device, **paths}
    search = raw["experiments"][0]["search"]
    if asked.tiny:
        raw |= {
            "size": "lease_tiny",
            "note": "embedded images, a tiny supernet: shows that the command works, and nothing else",
        }
        raw["experiments"][0] |= {"dataset": "digits"}
        raw["analysis"] = raw["analysis"] | {"dataset": "digits", "groups": {}}
        search |= TINY
    settings = {"precision": "bfloat16", **WAYS[way]} if way else {"merge_edges": True}
    raw["experiments"][0]["search"] = search | settings
    head = "# Written by `python -m benchmarks.lease`: the searches of this folder.\n"
    Path("config.yaml").write_text(head + yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=120))


def linked(options: argparse.Namespace) -> dict[str, str]:
    """Links in data/ of the slice's folder to what was named, and the keys that name those: paths of no machine are recorded."""
    Path("data").mkdir(exist_ok=True)
    keys = {}
    for key, given in (("nas_bench_201_table", options.table), ("cifar10_split", options.split)):
        if given is not None:
            _link(Path("data", given.name), given)
            keys[key] = f"data/{given.name}"
    if options.data is not None:
        _link(Path("data/cifar-10-batches-py"), options.data / "cifar-10-batches-py")
        keys["data_root"] = "data"
    return keys


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(target)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What was asked for, checked: wrong input ends in a line a mistake and code 2, before anything starts."""
    what = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lease", description=what, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, required=True, help="of this slice, all told")
    parser.add_argument("--out", type=Path, required=True, help="folder of the slice; what is there is gone on with")
    parser.add_argument("--resume", type=Path, help="folder of an earlier slice, or of the files it was packed into")
    parser.add_argument(
        "--data", type=Path, help="folder that holds cifar-10-batches-py; without it a GPU's slice downloads it"
    )
    parser.add_argument("--table", type=Path, help="table of NAS-Bench-201; without it cells aren't looked up")
    parser.add_argument(
        "--split", type=Path, help="index lists of the benchmark's halves; without it halves are random"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts that are run; the report always is"
    )
    parser.add_argument("--other-code", action="store_true", help="go on with searches that other code began")
    parser.add_argument("--fail", choices=PARTS[:3], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    problems = list(_problems(options))
    if problems:
        print("\n".join(f"error: {problem}" for problem in problems), file=sys.stderr)
        sys.exit(2)
    for name in ("out", "resume", "data", "table", "split"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, path.resolve())
    return options


def _problems(options: argparse.Namespace) -> list[str]:
    found = []
    if not 0 < options.minutes < float("inf"):
        found.append(f"--minutes {options.minutes:g} is not allowed; a number above 0")
    if options.resume is not None and not options.resume.is_dir():
        found.append(f"--resume {options.resume} is not an existing folder")
    raw = read_config(ROOT / "config/lease.yaml", []) | {"device": "auto", "claims": str(ROOT / "config/claims.yaml")}
    keys = {"data_root": options.data, "nas_bench_201_table": options.table, "cifar10_split": options.split}
    raw["experiments"][0]["methods"] = []  # nothing is trained, whether there is a table or not
    try:
        load(raw | {key: str(path) for key, path in keys.items() if path is not None})
    except ConfigError as error:
        names = {
            "data_root": "--data",
            "experiments.0.dataset": "--data",
            "nas_bench_201_table": "--table",
            "cifar10_split": "--split",
        }
        for problem in error.problems:
            key = next((key for key in names if problem.startswith(key)), None)
            found.append(problem if key is None else f"{names[key]}{problem.removeprefix(key)}")
    return found


def run_parts(options: argparse.Namespace, asked: Slice, say: Callable[[str], None]) -> list[str]:
    """Run what was asked for, one after the other; a line for each part that failed."""
    end = time.time() + 60 * asked.minutes
    parts, failed = Parts(end), []
    for part in ("right", "fast"):
        if part in asked.only and not parts.asked:
            if part == "fast" and not right_ways(SEARCHED):
                failed.append("fast: left out, since no way was found right")
                continue
            until = time.time() + share(SHARES[part], asked.minutes)
            say(f"{part}: {share(SHARES[part], asked.minutes):.0f} s")
            failed += parts.run(part, until, *([(way,) for way in WAYS] if part == "right" else [()]))
    if "search" in asked.only and not parts.asked:
        until = end - share(AT_THE_END, asked.minutes)
        way = chosen_way()
        write_config(asked, way, linked(options))
        say(
            f"search: {max(0.0, left(until)):.0f} s, {f'by {way!r}' if way else 'as torch has it: no way was found right'}"
        )
        failed += parts.run("searches", until, ())
    return failed


def main() -> int:
    """Use up a slice; 1 if a part failed, 0 if none did."""
    options = options_of()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.resume not in (None, options.out) and not (options.out / "slice.json").exists():
        try:
            packing.unpack(options.resume, options.out)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    os.chdir(options.out)
    tiny = options.device == "cpu" and options.data is None
    asked = Slice(
        options.device, options.minutes, options.only, tiny, options.table is not None, options.other_code, options.fail
    )
    asked.write()
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"lease, {time.monotonic() - start:.0f} s: {line}", file=sys.stderr, flush=True)

    failed = run_parts(options, asked, say)
    text = report.write(asked, failed)
    print(text)
    say(f"report.md and carry/ are in {options.out}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
