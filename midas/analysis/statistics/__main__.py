"""``python -m midas.analysis.statistics RUN FOLDER``."""

from midas.analysis.statistics.writing import statistics
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, statistics)
