"""``python -m midas.decode RUN FOLDER``."""

from midas.methods.decoding import decode
from midas.plan.runs import DecodeRun
from midas.running.step import main

if __name__ == "__main__":
    main(DecodeRun, decode)
