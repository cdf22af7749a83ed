"""``python -m midas.analysis.claims RUN FOLDER``."""

from midas.analysis.claims.writing import write_claims
from midas.plan.runs import PresentRun
from midas.running.step import main

if __name__ == "__main__":
    main(PresentRun, write_claims)
