"""Raw results of a size, small enough for the repository: ``python -m midas.publish CONFIG.yaml [key=value ...]``.

Copies what tables, figures and claims are made of from results/{size} to results/published/{size}, with the configuration
(config.yaml) by which ``make figures`` redraws them there. Dumps are reduced: weights p of evenly spaced images, more of
them where figure 3 shows them, and mean and standard deviation over all. Trained weights are left out (model.safetensors), and
images (example.npz) but those that are embedded. Places on this machine are shortened to their last name: "/scratch/u/cifar"
becomes "cifar", and a folder of results that lies elsewhere becomes the one of that name in the repository.
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
from midas.analysis.results import load_metrics
from midas.analysis.run_facts import metrics_files
from midas.config.reading import read_config
from midas.files.machine_paths import OF_A_MACHINE, last_name, places_in, shorten_text, shorten_values
from midas.plan.check import load
from midas.plan.further.listed import FURTHER
from midas.plan.plan import Plan
from midas.spaces import SPACES
from midas.spaces.given import known_cell

CLAIMS = "claims.yaml"
PUBLISHED = "published"
"""Folder within that of the results, and within that of the figures."""

IMAGES = 1_250
"""Of the dump whose weights figure 3 shows image by image; at most about twice as many."""
FEW = 100
"""Of other dumps, of which tables and figures show moments alone."""

BESIDE = ("history.csv", "steps.csv", "scores.csv", "accuracies.csv", "log.txt")
"""What is copied with a metrics.json where it is there."""

EMBEDDED = ("digits", "digit_pairs")
"""Data sets whose images come with scikit-learn and may be shown."""


def publish(plan: Plan) -> Path:
    """Write results/published/{size} anew.

    Returns:
        That folder; where results lie at an absolute path, one of the last name of theirs in the current folder.

    Raises:
        ValueError: results are missing or damaged.
    """
    needed, dumps = list(_needed(plan)), dict(_dumps(plan))
    missing = [path for path in [*needed, *dumps] if not path.exists()]
    if missing:
        raise ValueError("\n".join(f"{path}: missing; the size must be finished" for path in missing))
    target = Path(last_name(plan.config.results_dir)) / PUBLISHED / plan.config.size
    fresh = target.with_name(f".{target.name}.{os.getpid()}")  # what was published stays until all of this is there
    try:
        for path in [*needed, *_beside(needed), *dumps]:
            (fresh / path.relative_to(plan.root)).parent.mkdir(parents=True, exist_ok=True)
        for path in [*needed, *_beside(needed)]:
            shutil.copyfile(path, fresh / path.relative_to(plan.root))
        if Path(plan.config.claims).is_absolute():
            shutil.copyfile(plan.config.claims, fresh / CLAIMS)
        for path, images in dumps.items():
            reduce_dump(path, fresh / path.relative_to(plan.root), images)
        places = _places_of(plan, fresh)
        (fresh / "config.yaml").write_text(_config(plan, target, places))
        _shorten_texts(fresh, places)
        _refuse_paths(fresh)
        shutil.rmtree(target, ignore_errors=True)
        return fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _needed(plan: Plan) -> Iterator[Path]:
    """Files without which something can't be redrawn, less the dumps."""
    for _, path in metrics_files(plan):
        yield path
    for cell in plan.cells():
        yield plan.cell_folder(cell) / "decode/genotype.json"
    for cell in plan.cells(searched=True):
        yield plan.cell_folder(cell) / "search/history.csv"
    if analysis := plan.config.analysis:
        yield from (plan.root / "analysis" / f"{name}.csv" for name in ("dip", "similarity", "weights", "variants"))
        if analysis.dataset in EMBEDDED:
            first = plan.folder(analysis.space, analysis.dataset, analysis.method, plan.config.seeds[0])
            yield first / "search/example.npz"
    for further in FURTHER:
        yield from further.files(plan)


def _dumps(plan: Plan) -> Iterator[tuple[Path, int]]:
    """Dumps, and how many images are kept of each."""
    chosen = plan.config.analysis
    for cell in plan.cells(searched=True):
        here = (cell.experiment.space, cell.experiment.dataset, cell.method, cell.seed)
        shown = chosen is not None and here == (chosen.space, chosen.dataset, chosen.method, plan.config.seeds[0])
        yield plan.cell_folder(cell) / "search/arch.npz", IMAGES if shown else FEW


def _beside(needed: list[Path]) -> Iterator[Path]:
    """Histories and logs of the same steps."""
    for folder in dict.fromkeys(path.parent for path in needed):
        files = [*(folder / name for name in BESIDE), folder.with_suffix(".log")]
        yield from (path for path in files if path.exists() and path not in needed)


def _texts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.suffix != ".npz")


def _places_of(plan: Plan, folder: Path) -> list[str]:
    """Absolute paths that a configuration and its runs name: the folders of results first, then the longest.

    Raises:
        ValueError: a file isn't JSON.
    """
    contents = [load_metrics(path) for path in _texts(folder) if path.name == "metrics.json"]
    found = sorted(set(places_in([plan.config.model_dump(mode="json"), *contents])), key=len, reverse=True)
    own = [str(Path(place)) for place in (plan.config.results_dir, plan.config.figures_dir)]
    return sorted(found, key=lambda place: place not in own)


def _shorten_texts(folder: Path, places: list[str]) -> None:
    """Shorten the absolute paths in the texts of a folder, which stay valid JSON and CSV; other bytes stay as they are."""
    for path in _texts(folder):
        text = path.read_text()
        if (shorter := shorten_text(text, path.suffix, places)) != text:
            path.write_text(shorter)


def _refuse_paths(folder: Path) -> None:
    """Raise an error if a text names a folder of this machine all the same."""
    for path in _texts(folder):
        if found := OF_A_MACHINE.search(path.read_text()):
            raise ValueError(f"{path.relative_to(folder)}: {found[0]!r} is not allowed, and can't be shortened")


def reduce_dump(source: Path, target: Path, images: int) -> None:
    """Write a dump of every n-th image, with the moments of all of them: `moments` [2, cells, edges, operations], `mean_pi`.

    Args:
        source: the whole dump.
        target: the file to write.
        images: fewest to keep, where there are as many; at most about twice as many are.

    Raises:
        ValueError: the dump is missing or damaged.
    """
    dump = load_dump(source)
    every = slice(None, None, max(1, len(dump.p) // images))
    with np.load(source, allow_pickle=False) as file:
        arrays = dict(file)
    arrays |= {"p": dump.p[every], "labels": dump.labels[every]}
    arrays["moments"] = np.stack([dump.mean, dump.std])
    if "pi" in arrays:
        arrays["mean_pi"] = arrays.pop("pi").mean(0, dtype=np.float64)
    np.savez_compressed(target, **arrays)


def _config(plan: Plan, target: Path, places: list[str]) -> str:
    """The configuration as it was, its folders those of what is published."""
    raw = plan.config.model_dump(mode="json", exclude_unset=True)
    for key in ("data_root", "cifar10_split"):  # not needed to redraw
        raw.pop(key, None)
    for key in ("results_dir", "figures_dir"):
        raw[key] = (Path(last_name(getattr(plan.config, key))) / PUBLISHED).as_posix()
    for cell in plan.cells():  # the cell itself, in the place of a file that isn't published
        if given := plan.config.methods[cell.method].genotype:
            kept = plan.cell_folder(cell) / "decode/genotype.json"
            raw["methods"][cell.method]["genotype"] = str(known_cell(given, SPACES[cell.experiment.space], kept))
    if Path(plan.config.claims).is_absolute():
        raw["claims"] = (target / CLAIMS).as_posix()
    if plan.config.analysis and plan.config.analysis.dataset not in EMBEDDED:
        raw["analysis"]["example"] = False
    raw = shorten_values(raw, places)
    head = f"# Written by `python -m midas.publish`; redrawn by `make figures`. {' '.join(raw['note'].split())}.\n"
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
