"""Measure what a search costs, method by method.

``python -m midas.cost RUN FOLDER`` lets the supernets of all methods take their turns, and writes `steps.csv` (a row for each
turn) and, last, `metrics.json` (time and memory of each method, and how they compare with the baseline's).
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from midas.files.writing import write_table
from midas.measuring.costs import (
    CONVENTION,
    INTERVAL,
    comparisons,
    cost_rows,
    measure,
    steps_per_epoch,
    turn_rows,
)
from midas.plan.runs import CostRun
from midas.running.devices import pick_device
from midas.running.provenance import write_metrics
from midas.running.step import main


def cost(run: CostRun, folder: Path) -> None:
    """Measure every variant and write the outputs.

    Raises:
        ValueError: see `steps_per_epoch` and `peak_memory`.
    """
    start = time.monotonic()
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    steps, compared = steps_per_epoch(run), comparisons(run)
    found = measure(run, [variant for _, variant in compared], device)
    write_table(folder / "steps.csv", turn_rows(compared, found))
    numbers = {
        "baseline": run.cost.baseline,
        "repeats": run.cost.repeats,
        "steps": run.cost.steps,
        "steps_per_epoch": steps,
        "interval": INTERVAL,
        "convention": CONVENTION,
        "rows": cost_rows(run, compared, found, steps),
    }
    write_metrics(folder / "metrics.json", "cost", run, numbers, time.monotonic() - start, device)


if __name__ == "__main__":
    main(CostRun, cost)
