"""Parameters and multiply-adds of a found cell's network: ``python -m midas.count GENOTYPE``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch

from midas.networks.counting import count
from midas.networks.skeletons import build
from midas.spaces.given import read_given

CONVENTION = (
    "params: all trained parameters, auxiliary head left out; multiply_adds: of convolutions and linear layers alone, "
    "for one image, half of torch.utils.flop_counter's count"
)
DEFAULTS = {
    "nas_bench_201": {"channels": 16, "cells": 5, "classes": 10},
    "darts": {"channels": 36, "cells": 20, "classes": 10},
    "imagenet": {"channels": 48, "cells": 14, "classes": 1000},
}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number from 1 on")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m midas.count", description=__doc__)
    parser.add_argument(
        "genotype", help="a genotype.json, or a cell as text, e.g. |op~0|+... or Genotype(normal=[...], ...)"
    )
    for name in ("channels", "cells", "classes"):
        defaults = ", ".join(f"{values[name]} for {family}" for family, values in DEFAULTS.items())
        parser.add_argument(f"--{name}", type=_positive, help=f"default: {defaults}")
    parser.add_argument("--imagenet", action="store_true", help="the DARTS network for 224x224 pixels")
    return parser.parse_args()


def _count(arguments: argparse.Namespace) -> dict[str, Any]:
    genotype = read_given(arguments.genotype)
    defaults = DEFAULTS["imagenet" if arguments.imagenet else genotype.family]
    sizes = {name: getattr(arguments, name) or value for name, value in defaults.items()}
    image = (224, 224) if arguments.imagenet else (32, 32)
    with torch.device("meta"):
        network = build(genotype, sizes["channels"], sizes["cells"], sizes["classes"], imagenet=arguments.imagenet)
    params, multiply_adds = count(network, image)
    return {"params": params, "multiply_adds": multiply_adds, "convention": CONVENTION, **sizes, "image": image}


def main() -> None:
    """Print the counts as JSON; wrong input ends in one line and exit code 2."""
    arguments = _arguments()
    try:
        print(json.dumps(_count(arguments)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
