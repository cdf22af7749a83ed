"""``python -m midas.analysis.neighbourhoods RUN FOLDER``."""

from midas.analysis.neighbourhoods.writing import neighbourhoods
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, neighbourhoods)
