"""Do the fast settings find what the plain ones find? ``python -m benchmarks.same_cell DATA FOLDER``.

Searches NAS-Bench-201 on the first 10,000 images of CIFAR-10 (half each) with every fast setting on and off, from the same
initial values (but for merged edges, whose parameters are drawn in another order), and with two other seeds. Compares mean
weights p over the validation half, and decoded cells. FOLDER keeps the searches: started again, it goes on. Writes
benchmarks/same_cell.json.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from midas.config.method import Method
from midas.config.settings import Search
from midas.images.datasets import KNOWN
from midas.methods.decoding import decode_weights
from midas.plan.runs import SearchRun
from midas.running.provenance import processor, versions
from midas.search import search
from midas.spaces import get_space

SPACE = "nas_bench_201"
IMAGES = 10_000
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "fast": (0, {}),
    "plain": (0, {"fast": False, "channels_last": False}),
    "bfloat16": (0, {"precision": "bfloat16"}),
    "merged": (0, {"merge_edges": True}),
    "seed 1": (1, {}),
    "seed 2": (2, {}),
}
"""Name -> seed and what differs from the defaults."""


def mean_weights(folder: Path) -> np.ndarray:
    """Mean over images of p [cells, edges, operations]."""
    with np.load(folder / "arch.npz") as dump:
        return dump["p"].astype(np.float64).mean(0)


def differences(weights: dict[str, np.ndarray], pairs: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Largest and mean difference of p for each pair of searches."""
    found = {f"{a}, {b}": np.abs(weights[a] - weights[b]) for a, b in pairs}
    return {name: {"largest": float(d.max()), "mean": float(d.mean())} for name, d in found.items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with cifar-10-batches-py")
    parser.add_argument("folder", type=Path, help="for the searches")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=1, help="of each stage")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    split = options.folder / "split.json"
    split.write_text(json.dumps({"train": list(range(0, IMAGES, 2)), "valid": list(range(1, IMAGES, 2))}))
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(options.data), "split": str(split)})
    size = {name: getattr(options, name) for name in ("epochs", "channels", "cells")}
    weights, rows, space = {}, {}, get_space(SPACE)
    for name, (seed, changes) in WAYS.items():
        folder = options.folder / name.replace(" ", "_")
        settings, method = Search(**size, **changes), Method()
        if not (folder / "metrics.json").exists():
            run = SearchRun(
                **{"space": SPACE, "dataset": dataset, "method": method, "seed": seed, "device": "cpu"},
                **{"threads": options.threads, "search": settings},
            )
            search(run, folder)
        metrics, weights[name] = json.loads((folder / "metrics.json").read_text()), mean_weights(folder)
        cell = decode_weights(weights[name], None, ["cell"] * len(weights[name]), space, None)
        rows[name] = {
            "cell": str(cell),
            "valid_accuracy": metrics["valid_accuracy"],
            "wall_seconds": metrics["cost"]["wall_seconds"],
        }
    seeds = [name for name, (_, changes) in WAYS.items() if not changes]
    found = {
        "size": {**size, "images": IMAGES},
        "processor": processor(),
        "versions": versions(),
        "searches": rows,
        "ways": differences(weights, [("fast", name) for name in ("plain", "bfloat16", "merged")]),
        "seeds": differences(weights, list(combinations(seeds, 2))),
    }
    Path(__file__).with_name("same_cell.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
