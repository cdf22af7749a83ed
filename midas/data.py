"""``python -m midas.data RUN FOLDER``."""

from midas.images.loader import prepare
from midas.plan.runs import DataRun
from midas.running.step import main

if __name__ == "__main__":
    main(DataRun, prepare)
