"""``python -m midas.cost RUN FOLDER``."""

from midas.measuring.costs import cost
from midas.plan.runs import CostRun
from midas.running.step import main

if __name__ == "__main__":
    main(CostRun, cost)
