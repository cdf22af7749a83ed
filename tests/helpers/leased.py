"""The command for a slice of a GPU's time, on a CPU at tiny size."""

import subprocess
import sys

from places import ROOT


def command(out, *more, minutes=10):
    return [
        sys.executable,
        "-m",
        "benchmarks.lease",
        "--device",
        "cpu",
        "--minutes",
        str(minutes),
        "--out",
        str(out),
        *more,
    ]


def run(out, *more, minutes=10):
    return subprocess.run(command(out, *more, minutes=minutes), cwd=ROOT, capture_output=True, text=True)
