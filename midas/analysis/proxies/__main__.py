"""``python -m midas.analysis.proxies RUN FOLDER`` writes table S3."""

from midas.analysis.proxies.table import make
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, make)
