"""Scores of a cell that cost seconds and no training: ``python -m midas.proxy GENOTYPE --data DATASET``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from midas.config.settings import UserDataset
from midas.files.writing import write_text
from midas.images.datasets import Dataset, resolve
from midas.proxies.scoring import SCORES, one_batch, scores
from midas.spaces import SPACES
from midas.spaces.genotype import Genotype
from midas.spaces.given import read_given

DEFAULTS = {"nas_bench_201": {"channels": 16, "cells": 5}, "darts": {"channels": 36, "cells": 20}}
"""Family of a space -> the network that scores are published for."""


def _whole(least: int) -> Any:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number from {least} on")
        return int(text)

    return read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m midas.proxy", description=__doc__, allow_abbrev=False)
    parser.add_argument("genotype", help="a genotype.json, or either text form of a cell")
    parser.add_argument("--data", required=True, help="digits, digit_pairs, cifar10, cifar100, svhn, or an npz file")
    parser.add_argument("--data-root", help="folder with the published data sets; default: MIDAS_DATA")
    parser.add_argument("--space", choices=list(SPACES), help="refuse a cell that this space doesn't offer")
    for name, least in (("channels", 1), ("cells", 1)):
        defaults = ", ".join(f"{values[name]} for {family}" for family, values in DEFAULTS.items())
        parser.add_argument(f"--{name}", type=_whole(least), help=f"of the network; default: {defaults}")
    parser.add_argument("--batch-size", type=_whole(2), default=8, help="images; default: 8")
    parser.add_argument("--seed", type=_whole(0), default=42, help="of weights and batch; default: 42")
    parser.add_argument("--out", type=Path, help="file that the result is written to as well")
    return parser.parse_args()


def check_offered(genotype: Genotype, name: str) -> None:
    """Whether a space offers all that a cell holds.

    Raises:
        ValueError: it is a cell of another space; the message names the operation and what is offered.
    """
    space = SPACES[name]
    if space.networks != genotype.space:
        raise ValueError(f"the cell {genotype} is not one of {name}; it has the form of {genotype.space}")
    for kind, spec in space.cells.items():
        offered = dict(zip(spec.edges, spec.candidates, strict=True))
        for source, target, operation in genotype.edges(kind):
            allowed = offered.get((source, target), ())
            if operation not in allowed:
                raise ValueError(
                    f"{operation} from node {source} to node {target} of the {kind} cell is not one of {name}; allowed there: "
                    f"{', '.join(allowed) or 'no edge'}"
                )


def _dataset(name: str, root: str | None) -> Dataset:
    if Path(name).suffix == ".npz":
        return resolve("own", {"own": UserDataset(kind="npz", path=name)}, None, None)
    found = resolve(name, {}, root, None)
    if found.download:
        raise ValueError(f"--data: {name} is in no folder that is named; name one by --data-root or MIDAS_DATA")
    return found


def _result(arguments: argparse.Namespace) -> dict[str, Any]:
    named = SPACES[arguments.space] if arguments.space else SPACES["darts"]
    genotype = read_given(arguments.genotype, named.networks if named.family == "darts" else "darts")
    if arguments.space:
        check_offered(genotype, arguments.space)
    dataset = _dataset(arguments.data, arguments.data_root)
    sizes = {name: getattr(arguments, name) or value for name, value in DEFAULTS[genotype.family].items()}
    shrink = max(layer.shrink for layer in SPACES[genotype.space].skeleton(sizes["cells"]))
    if any(side % shrink for side in dataset.image) or max(dataset.image) == shrink:
        raise ValueError(
            f"--data: images of {dataset.image[0]}x{dataset.image[1]} are not allowed; multiples of {shrink}, not both {shrink}"
        )
    batch = one_batch(dataset, arguments.batch_size, arguments.seed)
    start = time.monotonic()
    found = scores(genotype, batch, dataset.classes, sizes["channels"], sizes["cells"], arguments.seed)
    return {
        "cell": str(genotype),
        "scores": {name: None if math.isnan(value) else value for name, value in found.items()},
        "dataset": dataset.name,
        **sizes,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - start, 2),
        "meaning": SCORES,
    }


def main() -> None:
    """Print the scores as JSON; wrong input ends in one line and exit code 2."""
    arguments = _arguments()
    try:
        text = json.dumps(_result(arguments), indent=1)
        if arguments.out:
            write_text(arguments.out, text + "\n")
        print(text)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or arguments.data}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
