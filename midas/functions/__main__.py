"""Find known functions again: ``python -m midas.functions RUN FOLDER``.

Writes recovery.csv (a row a search) and, last, metrics.json.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from midas.config.further.functions import FunctionsRun
from midas.files.writing import write_table
from midas.functions.recovery import ENOUGH, recoveries
from midas.running.progress import Progress
from midas.running.provenance import write_metrics
from midas.running.step import main


def functions(run: FunctionsRun, folder: Path) -> None:
    """Search for every function and write the outputs."""
    start = time.monotonic()
    torch.set_num_threads(run.threads)
    asked = run.functions
    rows, found = [], recoveries(asked)
    searches = len(asked.targets) * len(asked.noise) * len(asked.methods) * asked.seeds
    progress = Progress(1, "functions")
    for _ in progress.steps(range(searches), searches, 0, 0):
        rows.append(next(found))
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "recovery.csv", rows)
    numbers = {"searches": searches, "found": sum(row["found"] for row in rows), "enough": ENOUGH}
    write_metrics(folder / "metrics.json", "functions", run, numbers, time.monotonic() - start, torch.device("cpu"))


if __name__ == "__main__":
    main(FunctionsRun, functions)
