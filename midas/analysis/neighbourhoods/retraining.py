"""Cells near a found one, to be retrained as it was.

``python -m midas.analysis.neighbourhoods.retraining GENOTYPE FOLDER [options]``

Writes FOLDER/neighbour{n}/genotype.json; with ``--like``, the metrics.json of a retraining, also retrain.run.json beside it,
which `midas.retrain` reads: the same settings, data and seed with that cell. docs/neighbourhoods.md has the protocol.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from midas.analysis.results import load_metrics
from midas.config.keys import parse
from midas.files.writing import write_text
from midas.plan.runs import RetrainRun
from midas.spaces import SPACES, get_space
from midas.spaces.genotype import Genotype, load
from midas.spaces.neighbours import darts, nas_bench_201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m midas.analysis.neighbourhoods.retraining", description=__doc__)
    parser.add_argument("genotype", type=Path, help="a genotype.json")
    parser.add_argument("folder", type=Path, help="where the cells go")
    parser.add_argument("--space", choices=SPACES, help="default: darts, or nas_bench_201 for a cell of that form")
    parser.add_argument("--radius", type=int, default=1, help="distance of the cells, default 1")
    parser.add_argument("--count", type=int, help="so many drawn of them; default: all at distance 1, 30 further away")
    parser.add_argument("--seed", type=int, default=0, help="of the draw, default 0")
    parser.add_argument("--change", choices=("operation", "source"), help="at distance 1: by this kind of change alone")
    parser.add_argument("--like", type=Path, help="metrics.json of a retraining whose settings these cells get")
    return parser.parse_args()


FAR = 30
"""Cells that are drawn beyond distance 1 unless told otherwise, as A2M's scripts do."""


def cells_near(cell: Genotype, arguments: argparse.Namespace) -> list[Genotype]:
    """The cells that are asked for.

    Raises:
        ValueError: the cell isn't of the space, or there are none of that kind.
    """
    space = get_space(arguments.space or cell.space)
    if space.family != cell.space:
        raise ValueError(f"{arguments.genotype}: a cell of the form {cell.space} is not allowed; one of {space.name}")
    if arguments.change and (space.family != "darts" or arguments.radius != 1 or arguments.count is not None):
        raise ValueError("--change: not allowed with --count, another --radius than 1, or a cell of nas_bench_201")
    if space.family == "nas_bench_201":
        if arguments.count is not None:
            raise ValueError("--count: not allowed in nas_bench_201; all cells at the distance are written")
        return list(nas_bench_201.neighbours(cell, arguments.radius))
    if arguments.count is None and arguments.radius == 1:
        return list(darts.neighbours(cell, space, arguments.change))
    return darts.sample(
        cell, space, arguments.radius, FAR if arguments.count is None else arguments.count, arguments.seed
    )


def write(arguments: argparse.Namespace) -> int:
    """Write the cells; returns how many.

    Raises:
        ValueError: an input can't be read or used.
    """
    like: RetrainRun | None = None
    if arguments.like is not None:
        content = load_metrics(arguments.like)
        try:
            like = parse(content["config"], RetrainRun)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{arguments.like}: not the metrics.json of a retraining") from error
    found = cells_near(load(arguments.genotype), arguments)
    if any(arguments.folder.glob("neighbour*")):
        raise ValueError(
            f"{arguments.folder}: not allowed; it holds neighbours of an earlier call, which may be trained already"
        )
    for number, cell in enumerate(found):
        folder = arguments.folder / f"neighbour{number}"
        folder.mkdir(parents=True, exist_ok=True)
        cell.save(folder / "genotype.json")
        if like is not None:
            run = like.model_copy(update={"genotype": str(folder / "genotype.json")})
            write_text(folder / "retrain.run.json", run.model_dump_json() + "\n")
    return len(found)


def main() -> None:
    """Run from the command line; wrong input ends in one line and exit code 2."""
    arguments = _arguments()
    try:
        print(f"{arguments.folder}: cells written: {write(arguments):,}")
    except (ValueError, OSError) as error:
        wrong = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
