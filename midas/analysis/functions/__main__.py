"""``python -m midas.analysis.functions RUN FOLDER`` writes table_s4.csv, table_s4.md and table_s4.tex."""

from midas.analysis.functions import make
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, make)
