"""How far a training pass of MIDAS is from what the processor could do: ``python -m benchmarks.floor``.

The floor is the convolutions' operations at the speed of this processor's dense convolutions, and the bytes of the candidate maps
that must move at the speed of its memory. Beside it, seconds of a pass and of its parts, clocked from inside. Writes
benchmarks/floor.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest.contestants import CELLS, Contestant, stepper
from midas.methods import attention as mixing
from midas.methods.composition import supernet_of
from midas.networks import depthwise
from midas.running.provenance import processor, versions
from midas.spaces import get_space
from midas.supernet import mixture
from midas.supernet.operations import Pooling, Separable

PASSES = 5
"""Times that a candidate map moves: statistics and sum read it; dot products read it, its gradient reads it and is written."""
PARTS: dict[str, tuple[Any, str]] = {
    "dense convolutions with their statistics, forward": (mixture._Convolved, "forward"),
    "dense convolutions with their maps' gradients, backward": (mixture._Convolved, "backward"),
    "separable convolutions, forward": (Separable, "forward"),
    "pooling candidates, forward": (Pooling, "forward"),
    "depthwise convolutions, backward": (depthwise._Depthwise, "backward"),
    "statistics and pooled keys of the others, forward": (mixture._Enter, "forward"),
    "gradients of other raw maps and of states": (mixture._Enter, "backward"),
    "attention, forward": (mixing.AttentionMixing, "forward"),
    "attention, backward": (mixing._Attention, "backward"),
    "sums, forward": (mixture._Mixture, "forward"),
    "dot products of the sums, backward": (mixture._Mixture, "backward"),
}


WARM_UP = 5
"""Passes before those that count: the first take memory from the kernel."""


def median_seconds(call: Callable[[], object], repeats: int = 9) -> float:
    """Median seconds of a call, after two."""
    taken = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def speeds() -> dict[str, float]:
    """Operations a second of a dense 3x3 convolution of 64 channels, and bytes a second of a large copy."""
    source = torch.ones(50_000_000)
    target = torch.empty_like(source)
    found = {"bytes_per_second": 2 * 4 * len(source) / median_seconds(lambda: target.copy_(source))}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(64, 64, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(64, 64, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        operations = 2 * x.numel() * 64 * 9
        seconds = median_seconds(partial(F.conv2d, x, weight, padding=1))
        found[f"{str(dtype).removeprefix('torch.')}_per_second"] = operations / seconds
    return found


def work_of(c: Contestant) -> dict[str, float]:
    """Multiply-adds of an image in the forward pass, and elements of the maps that are mixed for it."""
    elements = 0
    forward = mixture._Mixture.forward

    def counted(ctx: Any, p: Any, scales: Any, shifts: Any, places: Any, *maps: torch.Tensor) -> torch.Tensor:
        nonlocal elements
        elements += sum(m.numel() for m in maps)
        return forward(ctx, p, scales, shifts, places, *maps)

    counting = patch.object(mixture._Mixture, "forward", staticmethod(counted))
    images = torch.zeros(2, 3, c.side, c.side)
    with torch.no_grad():
        with counting:
            supernet_of(get_space(c.space), c.method, c.channels, c.cells, 10)(images)
        with FlopCounterMode(display=False) as counter:
            supernet_of(get_space(c.space), c.method, c.channels, c.cells, 10, fast=False)(images)
    return {"multiply_adds": counter.get_total_flops() / 4, "map_elements": elements / 2}


def parts(c: Contestant, repeats: int = 5) -> dict[str, float]:
    """Seconds of a pass, and of each of its parts (a part inside another counts in both)."""
    taken: Counter[str] = Counter()

    def clocked(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **named: object) -> object:
            start = time.perf_counter()
            found = call(*arguments, **named)
            taken[name] += time.perf_counter() - start  # type: ignore[assignment]
            return found

        return run

    step, whole = stepper(c), []
    for _ in range(WARM_UP):
        step()
    originals = [(owner, name, owner.__dict__[name]) for owner, name in PARTS.values()]
    try:
        for label, (owner, name) in PARTS.items():
            call = clocked(label, getattr(owner, name))
            setattr(owner, name, staticmethod(call) if isinstance(owner.__dict__[name], staticmethod) else call)
        for _ in range(repeats):
            start = time.perf_counter()
            step()
            whole.append(time.perf_counter() - start)
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    return {"pass": statistics.median(whole), **{label: taken[label] / repeats for label in PARTS if taken[label]}}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: a column each."""
    lines = [
        "| seconds | " + " | ".join(f"{r['space']}, {r['precision']}" for r in rows) + " |",
        "|---" * (len(rows) + 1) + "|",
    ]
    named: dict[str, list[float | None]] = {
        "floor: operations of the convolutions": [r["floor_seconds"]["operations"] for r in rows],
        "floor: moving the mixed maps five times": [r["floor_seconds"]["traffic"] for r in rows],
    }
    named |= {label: [r["seconds"].get(label) for r in rows] for label in ("pass", *PARTS)}
    for label, values in named.items():
        lines.append(f"| {label} | " + " | ".join("" if v is None else f"{v:.2f}" for v in values) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    torch.set_num_threads(2)
    rates, rows = speeds(), []
    for space, cells in CELLS.items():
        for precision, size in (("float32", 4), ("bfloat16", 2)):
            c = Contestant("pass", space, cells=cells, precision=precision)
            work = work_of(c)
            floor = {
                "operations": 3 * 2 * c.batch * work["multiply_adds"] / rates[f"{precision}_per_second"],
                "traffic": PASSES * size * c.batch * work["map_elements"] / rates["bytes_per_second"],
            }
            rows.append({"space": space, "precision": precision, **work, "floor_seconds": floor, "seconds": parts(c)})
            print(json.dumps(rows[-1], indent=1), flush=True)
    found = {"processor": processor(), "threads": 2, "versions": versions(), "speeds": rates, "rows": rows}
    Path(__file__).with_name("floor.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
