"""How fast searches and retrainings are, against plain code: ``make bench``, or ``python -m benchmarks.bench``.

Each contestant is a process of its own, as it would be in use. They take their turns, in an order that is reversed each time,
and are compared turn by turn; wall and CPU time, and the most memory beyond what a process holds that has run the smallest
such network. A training pass is forward and backward to every parameter, on random images (32x32 but for transfer); a step of a
search is one of the architecture and one of the weights, with their optimisers. Writes benchmarks/latest.json and prints its rows
as a table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.plain import PlainSupernet
from midas.config.settings import Method, Retrain, Search, Transfer
from midas.measuring.timing import SyntheticSearch, median_interval, random_batch
from midas.methods.decoding import random_genotype
from midas.networks.depthwise import use_own_gradients
from midas.networks.skeletons import build
from midas.running.memory import peak_resident
from midas.running.processes import Group
from midas.running.provenance import processor, versions
from midas.spaces import get_space
from midas.training.bilevel import make_supernet
from midas.training.recorded import Recorded

LATEST = Path(__file__).with_name("latest.json")
CELLS = {"nas_bench_201": 5, "darts": 8}
"""Cells of the paper's supernets."""
CLASSES = 10
MIDAS, STATIC = Method(), Method(weights="static")


@dataclass(frozen=True)
class Contestant:
    """What takes part.

    Attributes:
        kind: plain (a pass of plain code's static supernet), pass, step (of a search); network or plain_network (a found cell is
            retrained), transfer or plain_transfer (it is trained on large images).
        space: name of the space.
        method: of a pass or step.
        precision: float32 or bfloat16.
        device: cpu or cuda.
        threads: of a CPU.
        batch: images.
        channels: initial ones.
        cells: as the configuration counts them.
        cuda_graph, merge_edges, triton: see `Search`.
        side: of the images in pixels.
    """

    kind: str
    space: str
    method: Method = MIDAS
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 2
    batch: int = 64
    channels: int = 16
    cells: int = 5
    cuda_graph: bool = False
    merge_edges: bool | None = None
    triton: bool = False
    side: int = 32


def stepper(c: Contestant) -> Callable[[], object]:
    """Makes a contestant; each call computes once."""
    torch.manual_seed(0)
    device = torch.device(c.device)
    x, y = random_batch(c.batch, (c.side, c.side), CLASSES, device)
    ways = {"cuda_graph": c.cuda_graph, "merge_edges": c.merge_edges, "triton": c.triton}
    settings = Search(channels=c.channels, cells=c.cells, epochs=1, batch_size=c.batch, precision=c.precision, **ways)
    if c.kind == "step":
        search = SyntheticSearch(c.space, c.method, settings, CLASSES, device)
        return lambda: search.step((x, y), (x, y))
    if c.kind.endswith(("network", "transfer")):
        return _training(c, device)
    if c.kind == "plain":
        network: nn.Module = PlainSupernet(get_space(c.space), c.channels, c.cells, CLASSES).to(device)
    else:
        network = make_supernet(c.space, c.method, settings, CLASSES, device)
        x = x.contiguous(memory_format=torch.channels_last)

    def training_pass() -> None:
        with torch.autocast(c.device, torch.bfloat16, enabled=c.precision == "bfloat16"):
            logits = network(x)
        F.cross_entropy(logits.float(), y).backward()
        for parameter in network.parameters():
            parameter.grad = None

    return Recorded(training_pass) if c.cuda_graph and device.type == "cuda" and c.kind == "pass" else training_pass


def _training(c: Contestant, device: torch.device) -> Callable[[], object]:
    """A step of training a random cell, as the pipeline does it or plainly."""
    from midas import retrain, transfer  # timm takes seconds

    plain, large = c.kind.startswith("plain"), c.kind.endswith("transfer")
    genotype, auxiliary = random_genotype(get_space(c.space), 0), c.cells >= 3
    network = build(genotype, c.channels, c.cells, CLASSES, auxiliary, imagenet=large)
    network.to(device).to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    use_own_gradients(network, fast=not plain)
    protocol: dict[str, Any] = {
        **{"channels": c.channels, "cells": c.cells, "epochs": 2, "batch_size": c.batch},
        **{"precision": c.precision, "channels_last": not plain},
    }
    trainer: retrain.Trainer | transfer.Trainer
    if large:
        settings = Transfer(dataset="imagenet", methods=["random"], warmup_epochs=1, **protocol)
        trainer = transfer.Trainer(network, settings, 0, CLASSES, 1, Group(device))
    else:
        trainer = retrain.Trainer(network, Retrain(**protocol), seed=0)
    batch = random_batch(c.batch, (c.side, c.side), CLASSES, device)
    return lambda: trainer.train([batch], 1)


def work(connection: Connection, contestant: Contestant) -> None:
    """A process: (wall seconds, CPU seconds, peak bytes) of a turn for each message that comes."""
    torch.set_num_threads(contestant.threads)
    cuda = contestant.device == "cuda"
    channels = (
        16 if contestant.kind.endswith("transfer") else 2
    )  # with fewer oneDNN crashes on large maps, see `midas.plan.check`
    smallest = replace(
        contestant, batch=2, channels=channels, cells=get_space(contestant.space).min_cells, cuda_graph=False
    )
    if not cuda:
        stepper(smallest)()
    before = 0 if cuda else peak_resident()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    step = stepper(contestant)
    while connection.recv():
        start, cpu = time.perf_counter(), time.process_time()
        step()
        if cuda:
            torch.cuda.synchronize()
        taken = time.perf_counter() - start, time.process_time() - cpu
        connection.send((*taken, torch.cuda.max_memory_allocated() if cuda else peak_resident() - before))


Turns = list[tuple[float, float, int]]


def measure(contestants: list[Contestant], repeats: int, warm_up: int = 2, at_once: bool = False) -> list[Turns]:
    """Turns of each contestant, `warm_up` of each before those that count; one after the other, or all at once."""
    context, started = multiprocessing.get_context("spawn"), []
    for contestant in contestants:
        mine, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, contestant), daemon=True)
        process.start()
        theirs.close()
        started.append((process, mine))
    turns: list[Turns] = [[] for _ in contestants]
    for repeat in range(warm_up + repeats):
        order = list(zip(turns, started, contestants, strict=True))[:: -1 if repeat % 2 else 1]
        for group in [order] if at_once else [[one] for one in order]:
            for _, (_, connection), _ in group:
                connection.send(True)
            for own, (_, connection), contestant in group:
                try:
                    own.append(connection.recv())
                except EOFError:
                    sys.exit(f"{contestant}: its process ended; most likely memory didn't suffice")
    for process, connection in started:
        connection.send(False)
        process.join()
    return [found[warm_up:] for found in turns]


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
    parser.add_argument("--out", type=Path, default=LATEST)
    parser.add_argument(
        "--show", action="store_true", help="print the table of what was measured last, and measure nothing"
    )
    options = parser.parse_args()
    if options.show:
        print(table(json.loads(options.out.read_text())["rows"]))
        return
    devices = options.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, Any]] = []
    for device in devices:
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
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
