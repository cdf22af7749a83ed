"""A transfer whose workers are spoiled in its second epoch."""

import os
import time

from places import ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SMALL = {
    **{
        "dataset": "grays",
        "methods": ["midas"],
        "image_size": 32,
        "channels": 4,
        "cells": 3,
        "epochs": 2,
        "batch_size": 12,
    },
    **{"warmup_epochs": 0, "auxiliary": 0.0, "precision": "float32", "workers": 2},
}
OUTPUTS = ("history.csv", "model.safetensors")
SPOILED = """
import os, signal, sys, time
from midas.running import waiting
from midas.training.photos import Photos
from midas.plan.runs import TransferRun
from midas.running.step import main
from midas.transfer import transfer

whole, seen = Photos.__getitem__, []

def spoiled(self, index):
    seen.append(index)
    late = len(seen) > int(os.environ["AFTER"])  # in the second batch of each worker
    if self.epoch == 1 and late and os.environ.get("RANK", "0") == "0":
        open(os.environ["SPOILED"], "w").close()
        {}
    return whole(self, index)

Photos.__getitem__, waiting.GRACE = spoiled, 3.0
main(TransferRun, transfer, long=True)
"""


HANGS, DIES = "time.sleep(1000)", "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"


def ended(process, seconds):
    """The exit code within some seconds, and what was said."""
    begin = time.monotonic()
    _, said = process.communicate(timeout=90)
    assert time.monotonic() - begin < seconds, said
    return process.returncode, said
