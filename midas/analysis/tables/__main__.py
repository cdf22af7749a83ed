"""``python -m midas.analysis.tables RUN FOLDER``."""

from midas.analysis.tables.making import make
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, make)
