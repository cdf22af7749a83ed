"""Time and memory of a search step against its size: ``python -m benchmarks.scaling``.

One quantity varies at a time around a small search of NAS-Bench-201 or, for candidates, of the DARTS family; MIDAS and static
mixing take their turns. Then several seeds at once as processes that share the cores, as the workflow runs them: seconds
that an epoch of 390 steps takes for each seed. Writes benchmarks/scaling.json and benchmarks/scaling.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.contest.contestants import MIDAS, STATIC, Contestant
from benchmarks.contest.turns import measure
from midas.running.provenance import processor, versions

BASE = Contestant("step", "nas_bench_201", batch=32, channels=8, cells=1)
AXES: dict[str, list[tuple[int, Contestant]]] = {
    "batch": [(n, replace(BASE, batch=n)) for n in (16, 32, 64, 128)],
    "channels": [(n, replace(BASE, channels=n)) for n in (4, 8, 16, 32)],
    "cells a stage": [(n, replace(BASE, cells=n)) for n in (1, 2, 4)],
    "side of the images": [(n, replace(BASE, side=n)) for n in (16, 32, 64)],
    "candidates of an edge (S1, S2, DARTS)": [
        (n, replace(BASE, space=space, cells=3)) for n, space in ((2, "s2"), (7, "darts"))
    ],
    "side of a patch (PS)": [
        (n, replace(BASE, method=MIDAS.model_copy(update={"patch_size": n}))) for n in (2, 4, 8, 16, 32)
    ],
}
STEPS = 390
"""Steps of an epoch: 25,000 images in batches of 64."""


def points(repeats: int, threads: int) -> list[dict[str, Any]]:
    """Seconds and bytes of each point, for both methods."""
    found = []
    for axis, values in AXES.items():
        for value, contestant in values:
            pair = [replace(contestant, threads=threads), replace(contestant, threads=threads, method=STATIC)]
            for method, turns in zip(("midas", "static"), measure(pair, repeats), strict=True):
                seconds = statistics.median(wall for wall, _, _ in turns)
                found.append(
                    {"axis": axis, "value": value, "method": method, "seconds": seconds, "bytes": turns[-1][2]}
                )
                print(found[-1], flush=True)
    return found


def packed(repeats: int, cores: int) -> list[dict[str, Any]]:
    """Seconds of an epoch for each seed when several seeds share the cores; all of them step at the same time."""
    found = []
    for seeds in dict.fromkeys((1, 2, cores, 2 * cores)):
        for threads in dict.fromkeys((1, max(1, cores // seeds))):
            contestants = [replace(BASE, batch=64, threads=threads)] * seeds
            turns = measure(contestants, repeats, at_once=True)
            seconds = statistics.median(wall for own in turns for wall, _, _ in own) * STEPS
            found.append({"seeds": seeds, "threads": threads, "epoch_seconds": seconds, "per_seed": seconds / seeds})
            print(found[-1], flush=True)
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel for each axis, time and memory, and one for seeds packed together."""
    figure, panels = plt.subplots(2, 4, figsize=(15, 6.5), constrained_layout=True)
    for panel, axis in zip(panels.flat, AXES, strict=False):
        beside = panel.twinx()
        for method, colour in (("midas", "C0"), ("static", "C1")):
            own = [p for p in found["points"] if (p["axis"], p["method"]) == (axis, method)]
            values = [p["value"] for p in own]
            panel.plot(values, [p["seconds"] for p in own], "o-", color=colour, label=f"{method}, seconds")
            beside.plot(values, [p["bytes"] / 1e9 for p in own], "s:", color=colour, label=f"{method}, GB", alpha=0.6)
        panel.set(
            xlabel=axis, ylabel="seconds of a step", xscale="log", xticks=values, xticklabels=values, ylim=(0, None)
        )
        panel.minorticks_off()
        beside.set(ylabel="GB", ylim=(0, None))
    lines = [handle for a in (panel, beside) for handle in a.get_legend_handles_labels()[0]]
    panels.flat[-1].axis("off")
    panels.flat[-1].legend(handles=lines, loc="center")
    last = panels.flat[len(AXES)]
    for threads in sorted({p["threads"] for p in found["packed"]}):
        own = [p for p in found["packed"] if p["threads"] == threads]
        last.plot([p["seeds"] for p in own], [p["per_seed"] for p in own], "o-", label=f"threads of a seed: {threads}")
    last.set(xlabel="seeds at once", ylabel="seconds of an epoch, by seed", ylim=(0, None))
    last.legend()
    figure.suptitle(f"A step of a search (NAS-Bench-201, 8 channels, 1 cell a stage, batch 32) on {found['processor']}")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    found = {
        "processor": processor(),
        "cores": options.cores,
        "versions": versions(),
        "points": points(options.repeats, options.cores),
        "packed": packed(options.repeats, options.cores),
    }
    path = Path(__file__).with_name("scaling.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
