"""What a slice is asked for on the command line, checked before anything starts. Nothing here needs torch."""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

from benchmarks.lease.slices import PARTS, SEARCHED
from midas.config.keys import ConfigError, parse
from midas.config.reading import read_config
from midas.plan.check import load
from midas.running.provenance import ROOT

LEAST_MINUTES = 1.0
CONFIG = ROOT / "config/lease.yaml"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What was asked for, checked: wrong input ends in a line a mistake and code 2, before anything starts."""
    what = "Uses up a slice of a GPU's time: checks, measures, searches and reports; the next slice goes on."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lease", description=what, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, required=True, help="of this slice, all told")
    parser.add_argument("--out", type=Path, required=True, help="folder of the slice; what is there is gone on with")
    parser.add_argument("--resume", type=Path, help="folder of an earlier slice, or of the files it was packed into")
    parser.add_argument(
        "--data", type=Path, help="folder that holds cifar-10-batches-py; without it a GPU's slice downloads it"
    )
    parser.add_argument("--table", type=Path, help="table of NAS-Bench-201; without it cells aren't looked up")
    parser.add_argument(
        "--split", type=Path, help="index lists of the benchmark's halves; without it halves are random"
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="configuration of the searches (default: config/lease.yaml)"
    )
    parser.add_argument("--at-once", type=int, help="searches at once (default: as many as were measured to pay)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts that are run; the report always is"
    )
    parser.add_argument("--other-code", action="store_true", help="go on with searches that other code began")
    parser.add_argument("--fail", choices=PARTS[:3], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    problems = list(_problems(options))
    if problems:
        print("\n".join(f"error: {problem}" for problem in problems), file=sys.stderr)
        sys.exit(2)
    for name in ("out", "resume", "data", "table", "split", "config"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, path.resolve())
    return options


def _problems(options: argparse.Namespace) -> list[str]:
    found = []
    if not LEAST_MINUTES <= options.minutes < float("inf"):
        found.append(f"--minutes {options.minutes:g} is not allowed; a number of at least {LEAST_MINUTES:g}")
    if options.at_once is not None and options.at_once < 1:
        found.append(f"--at-once {options.at_once} is not allowed; a number of at least 1")
    if options.device == "cuda" and not has_gpu():
        found.append("--device cuda is not allowed: no GPU is found here; allowed: cpu")
    out = options.out.resolve()
    if out == ROOT or out in ROOT.parents:
        found.append(f"--out {options.out} is not allowed: it holds the repository; a folder of its own")
    if options.resume is not None and options.resume.resolve() in out.parents:
        found.append(f"--out {options.out} is not allowed: it lies in the folder of --resume")
    if options.resume is not None and not options.resume.is_dir():
        found.append(f"--resume {options.resume} is not an existing folder")
    keys = {"data_root": options.data, "nas_bench_201_table": options.table, "cifar10_split": options.split}
    try:
        raw = read_config(options.config, []) | {"device": "auto", "claims": str(ROOT / "config/claims.yaml")}
        experiments = [(one.space, one.dataset) for one in parse(raw).experiments]
    except ValueError as error:
        name = options.config
        return [*found, *(f"--config {name}: {line.removeprefix(f'{name}: ')}" for line in str(error).splitlines())]
    if experiments != [(SEARCHED, "cifar10")]:
        return [*found, f"--config {options.config} is not allowed: one experiment, of {SEARCHED} on cifar10"]
    raw["experiments"][0]["search"] = raw["experiments"][0]["search"] | {
        "precision": "bfloat16"
    }  # as they will be searched
    raw["experiments"][0]["methods"] = []  # nothing is trained, whether there is a table or not
    try:
        load(raw | {key: str(path) for key, path in keys.items() if path is not None})
    except ConfigError as error:
        names = {
            "data_root": "--data",
            "experiments.0.dataset": "--data",
            "nas_bench_201_table": "--table",
            "cifar10_split": "--split",
        }
        for problem in error.problems:
            key = next((key for key in names if problem.startswith(key)), None)
            found.append(problem if key is None else f"{names[key]}{problem.removeprefix(key)}")
    return found


def has_gpu() -> bool:
    """Whether the driver finds one; torch, which would know too, takes seconds to load."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
