"""``python -m midas.analysis.ranks RUN FOLDER`` writes table_s1.csv, table_s1.md and table_s1.tex."""

from pathlib import Path

from midas.analysis.ranks.table import table
from midas.analysis.tables.presentation import write
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.step import main


def make(run: PresentRun, folder: Path) -> None:
    """Make the table."""
    write(table(Plan(run.config)), folder)


if __name__ == "__main__":
    main(PresentRun, make)
