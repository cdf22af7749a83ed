"""How many launches a GPU's pass has, counted without one: ``python -m benchmarks.launches``.

Counted are torch's operations that compute something, each as one launch (a few are two or three), and kernels in Triton, of a
training pass of plain code's static supernet and of MIDAS by each way of `benchmarks.lease`, at the paper's size. Writes
benchmarks/launches.json and prints a table.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.contest.contestants import CELLS, CLASSES
from benchmarks.contest.plain import PlainSupernet
from benchmarks.lease.compiled import without_gpu
from midas.config.method import Method
from midas.methods.composition import supernet_of
from midas.networks.depthwise import use_own_gradients
from midas.running.provenance import versions
from midas.spaces import get_space
from midas.supernet.cpu import kernels

FREE = {
    "promote_types",
    "detach",
    "lift_fresh",
    "alias",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_local_scalar_dense",
}
"""Operations that launch nothing; views launch nothing either."""
BATCH, CHANNELS = 64, 16


class Counting(TorchDispatchMode):
    """Counts the operations that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in FREE and not func.is_view:
            # gradients of a convolution's map and of its weight are a kernel each
            self.counts[name] += sum(args[-1]) if name == "convolution_backward" else 1
        return func(*args, **(kwargs or {}))


def counted(network: nn.Module) -> Counter[str]:
    """Launches of a training pass in bfloat16, by name."""
    x = torch.zeros(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    use_own_gradients(network, fast=False)
    counting, triton = Counting(), Counter[str]()
    with without_gpu(lambda kernel, *_, **__: triton.update([f"Triton: {kernel.fn.__name__}"])), counting:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        F.cross_entropy(logits.float(), torch.zeros(BATCH, dtype=torch.int64)).backward()
    return counting.counts + triton


def rows() -> list[dict[str, Any]]:
    """A row for each space and way."""
    found = []
    for name, cells in CELLS.items():
        space, size = get_space(name), (CHANNELS, cells, CLASSES)
        networks: dict[str, nn.Module] = {"plain": PlainSupernet(space, *size)}
        networks |= {
            "eager": supernet_of(space, Method(), *size),
            "merged": supernet_of(space, Method(), *size, merged=True),
        }
        networks["kernels"] = supernet_of(space, Method(), *size, merged=True, triton=True)
        for way, network in networks.items():
            with patch.object(kernels, "compiled", lambda: None):
                counts = counted(network.to(memory_format=torch.channels_last))
            found.append({"space": name, "way": way, "launches": counts.total(), "most": dict(counts.most_common(8))})
            print(json.dumps(found[-1]), flush=True)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        "| launches of a pass | " + " | ".join(dict.fromkeys(r["way"] for r in found)) + " |",
        "|---|---|---|---|---|",
    ]
    for space in dict.fromkeys(r["space"] for r in found):
        lines.append(f"| {space} | " + " | ".join(f"{r['launches']:,}" for r in found if r["space"] == space) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    found = {"versions": versions(), "batch": BATCH, "channels": CHANNELS, "cells": CELLS, "rows": rows()}
    Path(__file__).with_name("launches.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
