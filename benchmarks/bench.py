"""How fast searches and retrainings are, against plain code: ``make bench``, or ``python -m benchmarks.bench``.

Each contestant is a process of its own, as it would be in use. They take their turns, in an order that is reversed each time,
and are compared turn by turn; wall and CPU time, and the most memory beyond what a process holds that has run the smallest
such network. A training pass is forward and backward to every parameter, on random images (32x32 but for transfer); a step of a
search is one of the architecture and one of the weights, with their optimisers. Writes benchmarks/latest.json, with `--methods`
benchmarks/methods.json (steps of the field's methods, each against torch's own operations doing the same), and prints the rows as
a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest.contestants import CELLS, STATIC, Contestant
from benchmarks.contest.turns import Turns, measure
from midas.config.keys import parse
from midas.config.reading import read_config
from midas.measuring.timing import median_interval
from midas.running.provenance import processor, versions

LATEST, METHODS = (Path(__file__).with_name(name) for name in ("latest.json", "methods.json"))
COMPARATORS = Path(__file__).parent.parent / "config/comparators.yaml"
"""Its cost is measured of the methods that are benchmarked."""


def row(
    name: str, found: Turns, base: Turns, target: tuple[float, float] | None = None, share: float = 1
) -> dict[str, Any]:
    """Ratios of a contestant to its yardstick, of which `share` turns are set against one."""
    ratios = [mine[0] / (share * theirs[0]) for mine, theirs in zip(found, base, strict=True)]
    time_ratio, low, high = median_interval(ratios)
    memory_ratio = found[-1][2] / base[-1][2]
    numbers = {
        "time_ratio": time_ratio,
        "time_ratio_low": low,
        "time_ratio_high": high,
        "cpu_ratio": statistics.median(m[1] / (share * b[1]) for m, b in zip(found, base, strict=True)),
        "memory_ratio": memory_ratio,
        "seconds": statistics.median(m[0] for m in found),
        "base_seconds": share * statistics.median(b[0] for b in base),
        "memory_bytes": found[-1][2],
        "base_memory_bytes": base[-1][2],
    }
    reached = None if target is None else time_ratio <= target[0] and memory_ratio <= target[1]
    aims = {} if target is None else {"time_target": target[0], "memory_target": target[1]}
    return {
        "name": name,
        **{k: None if v is None else round(v, 4) for k, v in numbers.items()},
        **aims,
        "reached": reached,
    }


def space_rows(space: str, device: str, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Rows of one space; few contestants at a time, since a CPU's memory must hold all of them."""
    base = Contestant("plain", space, device=device, threads=threads, cells=CELLS[space])
    midas, name, cpu = replace(base, kind="pass"), f"{space}/{device}", device == "cpu"
    plain, float32, static = measure([base, midas, replace(midas, method=STATIC)], repeats)
    beside = f"{space}/midas_vs_static" if cpu else f"{name}/midas_vs_static"
    rows = [
        row(f"{name}/float32", float32, plain, (0.45, 0.6) if cpu else (0.2, 1.0)),
        row(beside, float32, static, (1.25, 1.15)),
    ]
    half = replace(midas, precision="bfloat16")
    step = replace(half, kind="step", cuda_graph=not cpu)
    plain, best, steps = measure([base, half, step], repeats)
    rows.append(row(f"{name}/best", best, plain, (0.3, 0.4) if cpu else None))
    rows.append(row(f"{name}/search_step", steps, plain, share=2))
    if not cpu:
        plain, best = measure([replace(base, precision="bfloat16"), half], repeats)
        rows.append(row(f"{name}/bfloat16", best, plain, (0.2, 1.0)))
    for found in rows:
        print(json.dumps(found), file=sys.stderr, flush=True)
    return rows


def training_rows(device: str, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Rows of retraining a random cell of the DARTS space (16 channels, 8 cells), and of its ImageNet network (48, 14)."""
    retrained = Contestant("plain_network", "darts", device=device, threads=threads, batch=96, cells=8)
    large = replace(retrained, kind="plain_transfer", batch=8, channels=48, cells=14, side=224)
    rows = []
    for name, base in (("retrain", retrained), ("transfer", large)):
        ours = replace(base, kind=base.kind.removeprefix("plain_"))
        plain, float32, bfloat16 = measure([base, ours, replace(ours, precision="bfloat16")], repeats)
        found = [row(f"{name}/{device}/float32", float32, plain), row(f"{name}/{device}/best", bfloat16, plain)]
        rows += [{**r, "images_per_second": round(base.batch / r["seconds"], 1)} for r in found]
    return rows


def method_rows(device: str, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Rows of a step of each of the field's methods on NAS-Bench-201 at the paper's size, against torch's own operations.

    Methods with a finite difference want float32, so all have it. `step_ratio`: to the step of first-order DARTS, turn by turn.
    """
    config = parse(read_config(COMPARATORS, []))
    (cost,) = (experiment.cost for experiment in config.experiments if experiment.cost)
    base = Contestant("step", "nas_bench_201", device=device, threads=threads, cells=CELLS["nas_bench_201"], epochs=100)
    ours = replace(base, method=config.methods[cost.baseline], cuda_graph=device != "cpu")
    rows = []
    for name in (cost.baseline, *cost.methods):
        mine = replace(ours, method=config.methods[name])
        plain = replace(mine, fast=False, cuda_graph=False)
        first, found, theirs = measure([ours, mine, plain], repeats)
        step_ratio, low, high = median_interval([a[0] / b[0] for a, b in zip(found, first, strict=True)])
        own = {"step_ratio": step_ratio, "step_ratio_low": low, "step_ratio_high": high}
        own |= {"step_memory_ratio": found[-1][2] / first[-1][2]}
        rows.append(row(f"methods/{device}/{name}", found, theirs) | {k: v and round(v, 4) for k, v in own.items()})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        "| row | time | 95 % interval | CPU time | memory | seconds | GB | aim (time, memory) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        aim = (
            ""
            if r["reached"] is None
            else f"{r['time_target']}, {r['memory_target']}: {'yes' if r['reached'] else 'no'}"
        )
        interval = "" if r["time_ratio_low"] is None else f"{r['time_ratio_low']:.2f} to {r['time_ratio_high']:.2f}"
        cells = [
            f"`{r['name']}`",
            f"{r['time_ratio']:.2f}",
            interval,
            f"{r['cpu_ratio']:.2f}",
            f"{r['memory_ratio']:.2f}",
        ]
        cells += [f"{r['seconds']:.3g}", f"{r['memory_bytes'] / 1e9:.2f}", aim]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8, help="turns of each contestant; an interval needs six")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--spaces", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument(
        "--devices", nargs="+", choices=["cpu", "cuda"], help="default: cpu, and cuda where there is one"
    )
    parser.add_argument("--methods", action="store_true", help="steps of the field's methods, and nothing else")
    parser.add_argument("--out", type=Path, help="default: latest.json or methods.json beside this file")
    parser.add_argument(
        "--show", action="store_true", help="print the table of what was measured last, and measure nothing"
    )
    options = parser.parse_args()
    out = options.out or (METHODS if options.methods else LATEST)
    if options.show:
        print(table(json.loads(out.read_text())["rows"]))
        return
    devices = options.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, Any]] = []
    for device in devices:
        if options.methods:
            rows += method_rows(device, options.repeats, options.threads)
            continue
        for space in options.spaces:
            rows += space_rows(space, device, options.repeats, options.threads)
        rows += training_rows(device, options.repeats, options.threads)
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if "cuda" in devices else None,
        "threads": options.threads,
        "repeats": options.repeats,
        "versions": versions(),
        "batch": Contestant.batch,
        "channels": Contestant.channels,
        "cells": CELLS,
        "rows": rows,
    }
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
