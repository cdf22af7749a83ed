"""Steps of the demo as processes of their own, and the files that they write."""

import os
import subprocess
import sys

from places import ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
FILES = {
    "search": ("arch.npz", "example.npz", "history.csv"),
    "retrain": ("history.csv", "model.safetensors"),
    "transfer": ("history.csv", "model.safetensors"),
}


def command(name, run, folder, *options):
    return [sys.executable, "-m", f"midas.{name}", run, str(folder), *options]


def finish(name, run, folder, *options):
    subprocess.run(command(name, run, folder, *options), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return {file: (folder / file).read_bytes() for file in FILES[name]}
