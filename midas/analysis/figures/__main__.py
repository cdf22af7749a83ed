"""``python -m midas.analysis.figures RUN FOLDER``."""

from midas.analysis.figures.drawing import draw
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, draw)
