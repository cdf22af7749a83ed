"""Make one table: ``python -m midas.analysis.tables RUN FOLDER`` writes table_N.csv, table_N.md and table_N.tex."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from midas.analysis.statistics.seeds import corrected
from midas.analysis.tables.ablation import ablation
from midas.analysis.tables.accuracy import darts, nas_bench_201
from midas.analysis.tables.cost import cost
from midas.analysis.tables.presentation import Table, write
from midas.analysis.tables.robust import robust_darts
from midas.analysis.tables.transfer import transfer
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

TABLES: dict[int, Callable[[Plan], Table]] = {
    1: nas_bench_201,
    2: darts,
    3: transfer,
    4: robust_darts,
    5: ablation,
    6: cost,
}


def make(run: PresentRun, folder: Path) -> None:
    """Make the table `run.number`.

    Raises:
        ValueError: the configuration has no such table, or a file that it needs is missing or damaged.
    """
    plan = Plan(run.config)
    if run.number not in plan.tables():
        raise ValueError(f"table {run.number} does not exist at size {run.config.size}; allowed: {plan.tables()}")
    table = TABLES[run.number](plan)
    numbers = corrected([block.numbers for block in table.blocks])
    write(replace(table, blocks=[replace(b, numbers=n) for b, n in zip(table.blocks, numbers, strict=True)]), folder)
