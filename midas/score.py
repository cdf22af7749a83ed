"""Score cells of NAS-Bench-201 without training them: a part of a sample that is drawn at random.

``python -m midas.score RUN FOLDER`` writes `scores.csv` (a row for each cell) and `metrics.json`. What is scored is kept beside
FOLDER, cell by cell, so that a killed run goes on with the next one. No table of the benchmark is read.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from midas.files.writing import write_table
from midas.plan.runs import ScoreRun, decisive
from midas.proxies.kept import Kept
from midas.proxies.scoring import SCORES, one_batch, scores
from midas.running.limits import leave_if_asked
from midas.running.provenance import digest, write_metrics
from midas.running.step import main
from midas.spaces.accuracies import drawn
from midas.spaces.benchmark import numbers
from midas.spaces.genotype import parse


def score(run: ScoreRun, folder: Path) -> None:
    """Write `scores.csv` and `metrics.json`; a score that is no finite number stays empty.

    Raises:
        ValueError: the data set can't be used.
    """
    torch.set_num_threads(run.threads)
    proxies, start = run.proxies, time.monotonic()
    batch = one_batch(run.dataset, proxies.batch_size, proxies.seed)
    reading = time.monotonic() - start
    identity = {"config": decisive(run), "contents": run.contents, "source_digest": digest("score")}
    kept = Kept(folder.with_name(f"{folder.name}_checkpoint") / "scores.jsonl", identity)
    cells = drawn(proxies.sample, proxies.seed)[run.chunk * proxies.chunk : (run.chunk + 1) * proxies.chunk]
    for cell in cells:
        if cell not in kept.rows:
            leave_if_asked("score")
            start = time.monotonic()
            found = scores(parse(cell), batch, run.dataset.classes, proxies.channels, proxies.cells, proxies.seed)
            kept.add(cell, found, time.monotonic() - start)
    rows = [{"index": numbers()[cell], "arch": cell, **kept.rows[cell]} for cell in cells]
    write_table(folder / "scores.csv", rows)
    whole = {name: sum(row[name] is not None for row in rows) for name in SCORES}
    wall = reading + sum(kept.seconds[cell] for cell in cells)
    write_metrics(
        folder / "metrics.json", "score", run, {"cells": len(cells), "finite": whole}, wall, torch.device("cpu")
    )
    kept.forget()


if __name__ == "__main__":
    main(ScoreRun, score, long=True)
