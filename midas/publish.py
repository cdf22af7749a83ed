"""Raw results of a size, small enough for the repository: ``python -m midas.publish CONFIG.yaml [key=value ...]``.

Copies what tables, figures and claims are made of from results/{size} to results/published/{size}, with the configuration
(config.yaml) by which ``make figures`` redraws them there. Dumps are reduced: weights p of evenly spaced images in float16, and
mean and standard deviation over all of them. Trained weights are left out (model.safetensors), and images (example.npz) but those
that are embedded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from midas.analysis.dumps import load_dump
from midas.check import load, read_config
from midas.plan import Plan

PUBLISHED = "published"
"""Folder within that of the results, and within that of the figures."""

IMAGES = 2_500
"""Of a dump, at most about twice as many."""

STEPS = ("search", "decode", "lookup", "retrain", "transfer")
FILES = ("metrics.json", "history.csv", "steps.csv", "genotype.json")
EMBEDDED = ("digits", "digit_pairs")
"""Data sets whose images come with scikit-learn and may be shown."""


def publish(plan: Plan) -> Path:
    """Write results/published/{size} anew.

    Returns:
        That folder.

    Raises:
        ValueError: results are missing or damaged, or a path of this machine would be published.
    """
    config = plan.config
    for key in ("data_root", "nas_bench_201_table", "cifar10_split", "claims"):
        if os.path.isabs(str(getattr(config, key) or "")):
            value = getattr(config, key)
            raise ValueError(
                f"{key}: {value!r} is not allowed; what is published names files relative to the repository"
            )
    files, dumps = (
        list(_files(plan)),
        [plan.cell_folder(cell) / "search/arch.npz" for cell in plan.cells(searched=True)],
    )
    missing = [path for path in [*files, *dumps] if not path.exists()]
    if missing:
        raise ValueError("\n".join(f"{path}: missing; the size must be finished" for path in missing))
    target = Path(config.results_dir) / PUBLISHED / config.size
    fresh = target.with_name(f".{target.name}.{os.getpid()}")  # what was published stays until all of this is there
    for path in files:
        _copy(path, fresh / path.relative_to(plan.root))
    for path in dumps:
        reduce_dump(path, fresh / path.relative_to(plan.root))
    (fresh / "config.yaml").write_text(_config(plan))
    shutil.rmtree(target, ignore_errors=True)
    return fresh.rename(target)


def _files(plan: Plan) -> Iterator[Path]:
    """What is copied as it is."""
    for cell in plan.cells():
        for step in STEPS:
            if (plan.cell_folder(cell) / step).is_dir():
                yield from _of_step(plan.cell_folder(cell) / step)
    for experiment in plan.config.experiments:
        yield from _of_step(plan.root / "data" / experiment.dataset)
    for experiment in plan.costs():
        yield from _of_step(plan.root / experiment.space / experiment.dataset / "cost")
    if analysis := plan.config.analysis:
        if analysis.dataset in EMBEDDED:
            first = plan.folder(analysis.space, analysis.dataset, analysis.method, plan.config.seeds[0])
            yield first / "search/example.npz"
        yield from (plan.root / "analysis" / f"{name}.csv" for name in ("dip", "similarity", "weights", "variants"))
        yield from _of_step(plan.root / "analysis")


def _of_step(folder: Path) -> Iterator[Path]:
    """The numbers of a step, and what it printed."""
    logs = (folder.with_suffix(".log"), folder / "log.txt")
    yield from (path for path in [*(folder / name for name in FILES), *logs] if path.exists())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def reduce_dump(source: Path, target: Path) -> None:
    """Write a dump of every n-th image, with the moments of all of them: `moments` [2, cells, edges, operations], `mean_pi`.

    Raises:
        ValueError: the dump is missing or damaged.
    """
    dump = load_dump(source)
    every = slice(None, None, max(1, len(dump.p) // IMAGES))
    with np.load(source, allow_pickle=False) as file:
        arrays = dict(file)
    arrays |= {"p": dump.p[every].astype(np.float16), "labels": dump.labels[every]}
    arrays["moments"] = np.stack([dump.mean, dump.std])
    if "pi" in arrays:
        arrays["mean_pi"] = arrays.pop("pi").mean(0, dtype=np.float64)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)


def _config(plan: Plan) -> str:
    """The configuration as it was, its folders those of what is published."""
    raw = plan.config.model_dump(mode="json", exclude_unset=True)
    raw.pop("data_root", None)  # not needed to redraw; without it data are downloaded
    for key, default in (("results_dir", "results"), ("figures_dir", "figures")):
        raw[key] = (Path(raw.get(key, default)) / PUBLISHED).as_posix()
    if plan.config.analysis and plan.config.analysis.dataset not in EMBEDDED:
        raw["analysis"]["example"] = False
    head = f"# Written by `python -m midas.publish`; redrawn by `make figures`. {plan.config.note}.\n"
    return head + yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=120)


def main() -> None:
    """Run from the command line; wrong input ends in one line a mistake and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m midas.publish", description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="a top key of it, replaced")
    arguments = parser.parse_args()
    try:
        folder = publish(load(read_config(arguments.config, arguments.changes)))
    except ValueError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
