"""Look a sample of NAS-Bench-201's cells, and those that searches found, up in the user's tables.

``python -m midas.accuracies RUN FOLDER`` writes `accuracies.csv` and `metrics.json`. It runs after all searches, and
nothing but a table reads what it writes. Nothing here needs torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from midas.files.writing import write_table
from midas.plan.runs import AccuraciesRun
from midas.running.provenance import write_metrics
from midas.running.step import main
from midas.spaces.accuracies import CLEAN, drawn, read_accuracies
from midas.spaces.benchmark import Rows, read_table
from midas.spaces.genotype import load


def accuracies(run: AccuraciesRun, folder: Path) -> None:
    """Write `accuracies.csv`, a row for each cell, empty where a table lacks it, and `metrics.json`.

    Raises:
        ValueError: a table or the file of a found cell can't be used, or no table is named.
    """
    start = time.monotonic()
    tables: dict[str, Rows] = {}
    if run.table is not None:
        tables |= dict.fromkeys(CLEAN, read_table(Path(run.table), run.cells))
    if run.robust is not None:
        tables |= dict.fromkeys(run.robust.columns, read_accuracies(Path(run.robust.table), run.robust.columns))
    if not tables:
        raise ValueError("table, robust: at least one of the two must name a table")
    found = [str(load(Path(path))) for path in run.genotypes]
    cells = dict.fromkeys([*drawn(run.sample, run.seed), *found])
    rows: list[dict[str, Any]] = [
        {"arch": cell, **{name: table.get(cell, {}).get(name) for name, table in tables.items()}} for cell in cells
    ]
    write_table(folder / "accuracies.csv", rows)
    known = {name: sum(row[name] is not None for row in rows) for name in tables}
    numbers = {"looked_up": len(rows), "known": known}
    write_metrics(folder / "metrics.json", "accuracies", run, numbers, time.monotonic() - start)


if __name__ == "__main__":
    main(AccuraciesRun, accuracies)
