"""A GPU for a quarter of an hour, used to its last second: checks, measurements and searches that the next slice goes on with.

``python -m benchmarks.lease --minutes 12 --out FOLDER [--resume FOLDER] [--data FOLDER] [--table FILE] [--split FILE]
[--config FILE] [--at-once N] [--device cuda|cpu] [--only PART ...] [--other-code]``

Each part is a process, so that what a device does to one ends no other, with a share of the time: right (a minute), fast (a
minute and a half), search (all that is left). What a part knows is on disk at once. The report is written in any case, and in
FOLDER/carry what the next slice needs and what is published. SIGTERM and Ctrl-C save and report; after SIGKILL the same command
goes on. On a CPU without --data sizes are tiny, on embedded images. Needs torch, timm, scipy, pandas, scikit-learn, matplotlib
and pydantic, and no Snakemake.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lease import packing, report
from benchmarks.lease.options import options_of
from benchmarks.lease.processes import Parts
from benchmarks.lease.slices import SEARCHED, WAYS, Rows, Slice, is_wrong, left, right_ways, strike
from midas.config.reading import read_config
from midas.files.disk import claim
from midas.files.writing import write_text

SHARES = {"right": (60.0, 1 / 9), "fast": (90.0, 1 / 6)}
"""Seconds of a part, and the most of a slice."""
AT_THE_END = (15.0, 1 / 15)
"""Likewise of report and packing."""
AGAIN = 30.0
"""Seconds that must be left for a part to begin again by another way."""
FALLBACK = "merged"
TINY_SIZE = "lease_tiny"
TINY: dict[str, Any] = {"channels": 4, "cells": 1, "epochs": 3, "batch_size": 128}


def share(of: tuple[float, float], minutes: float) -> float:
    """Seconds: so many, or so much of a slice if it is short."""
    return min(of[0], 60 * minutes * of[1])


def chosen_way() -> str | None:
    """The right way whose search step took the least time, or the last that wasn't measured; else `FALLBACK`, unless it is wrong.

    Searches that go on keep the order of their parameters, which merged edges change.
    """
    right, rows = right_ways(SEARCHED), Rows("fast").read()
    before = _search_before().get("merge_edges")
    right = [way for way in right if before in (None, WAYS[way]["merge_edges"])]
    steps = [r for r in rows if r.get("kind") == "step" and r.get("space") == SEARCHED and r.get("way") in right]
    failed = {r["way"] for r in steps if "error" in r}
    taken = {r["way"]: r["seconds"] for r in steps if "seconds" in r and r["way"] not in failed}
    if taken:
        return min(taken, key=taken.__getitem__)
    if unmeasured := [way for way in right if way not in failed]:
        return unmeasured[-1]
    simple = "eager" if before is False else FALLBACK
    return None if is_wrong(simple, SEARCHED) else simple


def _search_before() -> dict[str, Any]:
    """How an earlier slice searched; empty if none did."""
    try:
        return yaml.safe_load(Path("config.yaml").read_text())["experiments"][0]["search"]
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return {}


def write_config(source: Path, asked: Slice, way: str, paths: dict[str, str]) -> None:
    """Write the configuration of the searches, which the workflow can read too."""
    raw = read_config(source, []) | {"device": asked.device, **paths}
    search = raw["experiments"][0]["search"]
    if asked.tiny:
        raw |= {
            "size": TINY_SIZE,
            "note": "embedded images, a tiny supernet: shows that the command works, and nothing else",
        }
        raw |= {"seeds": [0, 1], "analysis": raw["analysis"] | {"dataset": "digits", "groups": {}}}
        raw["experiments"][0] |= {"dataset": "digits"}
        search |= TINY
    raw["experiments"][0]["search"] = search | {"precision": "bfloat16", **WAYS[way]}
    head = "# Written by `python -m benchmarks.lease`: the searches of this folder.\n"
    write_text(Path("config.yaml"), head + yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=120))


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


def run_parts(options: argparse.Namespace, asked: Slice, parts: Parts, say: Callable[[str], None]) -> list[str]:
    """Run what was asked for, one after the other; a line for each part that failed."""
    end, failed = time.time() + 60 * asked.minutes, []
    for part in ("right", "fast"):
        until = time.time() + share(SHARES[part], asked.minutes)
        while part in asked.only and not parts.asked:
            if part == "fast" and not right_ways(SEARCHED):
                failed.append("fast: left out, since no way was checked whole and found right")
                break
            say(f"{part}: {left(until):.0f} s")
            failed += parts.run(part, until, *([(way,) for way in WAYS] if part == "right" else [()]))
            if not parts.struck or left(until) < AGAIN:
                break
    until = end - share(AT_THE_END, asked.minutes)
    while "search" in asked.only and not parts.asked:
        way = chosen_way()
        if way is None:
            failed.append(f"search: left out, since {FALLBACK} was found wrong, and no other way right")
            break
        write_config(options.config, asked, way, linked(options))
        checked = "" if way in right_ways(SEARCHED) else ", which was not checked whole"
        say(f"search: {max(0.0, left(until)):.0f} s, by {way!r}{checked}")
        failed += parts.run("searches", until, ())
        if not parts.struck or left(until) < AGAIN:
            break
        strike(way, SEARCHED, "a search's step couldn't be recorded")
    return failed


def opened(options: argparse.Namespace) -> None:
    """Make the slice's folder this process's alone and the current one, begun with what is resumed.

    Raises:
        OSError: it can't be made.
        ValueError: another command is at work on it, or nothing can be resumed.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        claim(os.open(options.out / "lock", os.O_RDWR | os.O_CREAT), options.out)
    except BlockingIOError:
        raise ValueError(f"--out {options.out}: another command is at work on it") from None
    if options.resume is not None and options.resume != options.out:
        if (options.out / packing.BEGUN).exists():
            print(f"lease: {options.out} holds a slice already and goes on; --resume is not looked at", file=sys.stderr)
        else:
            packing.unpack(options.resume, options.out)
    os.chdir(options.out)
    packing.settle_kernels(Path("triton"))


def main() -> int:
    """Use up a slice; 1 if a part failed, 0 if none did."""
    options = options_of()
    try:
        opened(options)
    except (OSError, ValueError) as error:
        print(
            f"error: {error if isinstance(error, ValueError) else f'--out {options.out}: {error.strerror}'}",
            file=sys.stderr,
        )
        return 2
    tiny = options.device == "cpu" and options.data is None
    told = options.other_code, options.fail, options.at_once
    asked = Slice(options.device, options.minutes, options.only, tiny, *told)
    asked.write()
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"lease, {time.monotonic() - start:.0f} s: {line}", file=sys.stderr, flush=True)

    def reported(failed: list[str]) -> str:
        """The page; what can't be written is said and ends nothing."""
        try:
            return report.write(asked, failed, "asked to stop" if parts.asked else None)
        except Exception as error:
            traceback.print_exc()
            say(f"no report: {type(error).__name__}: {error}")
            return ""

    parts = Parts(lambda: reported([]))
    failed = run_parts(options, asked, parts, say)
    text = reported(failed)
    print(text)
    say(f"report.md and carry/ are in {options.out}")
    return int(bool(failed) or not text)


if __name__ == "__main__":
    sys.exit(main())
