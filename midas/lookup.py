"""Look a found NAS-Bench-201 cell, and the cells decoded on the way to it, up in the benchmark's table.

``python -m midas.lookup RUN FOLDER`` writes `metrics.json` (the found cell's row; best, mean and deviation of the
whole table) and `history.csv` (the accuracies of each epoch's cell; epoch 0: a random one). Nothing here needs torch.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from midas.files.writing import write_table
from midas.plan.runs import LookupRun
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.benchmark import ACCURACIES, Benchmark
from midas.spaces.genotype import Genotype, load, parse


def lookup(run: LookupRun, folder: Path) -> None:
    """Write `history.csv` and `metrics.json`.

    Raises:
        ValueError: an input can't be read, or the table lacks a cell.
    """
    start = time.monotonic()
    benchmark = Benchmark(Path(run.table), run.cells)
    genotype = load(Path(run.genotype))
    row = benchmark[genotype]
    cells = [(0, genotype)] if run.history is None else read_history(Path(run.history))
    rows = [{"epoch": e, "arch": str(c), **{name: benchmark[c][name] for name in ACCURACIES}} for e, c in cells]
    write_table(folder / "history.csv", rows)
    numbers: dict[str, Any] = {
        "cell": {"arch": str(genotype), **row, "index": int(row["index"])},
        "benchmark": benchmark.summary(),
        "benchmark_cells": len(benchmark),
    }
    write_metrics(folder / "metrics.json", "lookup", run, numbers, time.monotonic() - start)


def read_history(path: Path) -> list[tuple[int, Genotype]]:
    """Epoch and decoded cell from the `history.csv` of a search.

    Raises:
        ValueError: the file can't be read, lacks the columns epoch and genotype, or holds something else in them.
    """
    try:
        with path.open(newline="") as file:
            cells = [(int(row["epoch"]), parse(row["genotype"])) for row in csv.DictReader(file)]
        if not cells:
            raise ValueError("it has no epochs")
    except (OSError, KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not the history of a search (columns epoch and genotype): {error}") from error
    return cells


if __name__ == "__main__":
    main(LookupRun, lookup)
