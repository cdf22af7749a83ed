"""``python -m midas.analysis.report RUN FOLDER``."""

from midas.analysis.report.page import write_report
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, write_report)
