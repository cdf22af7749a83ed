"""Turn the dump of a search into a cell; without a dump, draw one, or take the one that is given.

``python -m midas.decode RUN FOLDER`` averages the dump's weights over its images, and writes `genotype.json`, the cell that they
stand for. Nothing here needs torch.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from midas.config.method import Method
from midas.methods.decoding import decode_weights, pools, random_genotype, threshold_of
from midas.plan.runs import DecodeRun
from midas.running.step import main
from midas.spaces import Space, get_space
from midas.spaces.genotype import Genotype
from midas.spaces.given import given_cell


def decode(run: DecodeRun, folder: Path) -> None:
    """Write genotype.json of a dump, or of a given or random cell where there is none."""
    space = get_space(run.space, run.method.offer_none)
    if run.method.genotype is not None:
        genotype = given_cell(run.method.genotype, space)
    elif run.dump is None:
        genotype = random_genotype(space, run.seed, run.method.decode_none)
    else:
        genotype = decode_dump(Path(run.dump), space, run.method)
    folder.mkdir(parents=True, exist_ok=True)
    genotype.save(folder / "genotype.json")
    print(genotype)


def decode_dump(dump: Path, space: Space, method: Method) -> Genotype:
    """The cell of a search's dump (arch.npz).

    Raises:
        ValueError: the dump is missing or damaged, or of another space, or nothing of a cell reaches a threshold.
    """
    try:
        with zipfile.ZipFile(dump), np.load(dump, allow_pickle=False) as file:
            p, kinds, operations = file["p"], file["kinds"].tolist(), tuple(file["operations"].tolist())
            pi, moments, pairs = file.get("pi"), file.get("moments"), file.get("mean_pi")
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{dump}: not a dump of a search: {error}") from error
    if operations != space.operations:
        raise ValueError(f"{dump}: its operations {operations} are not those of {space.name}")
    edges = len(next(iter(space.cells.values())).edges)
    expected = (len(kinds), edges, len(operations))
    if set(kinds) != set(space.cells) or p.shape[1:] != expected or len(p) == 0 or not np.isfinite(p).all():
        raise ValueError(f"{dump}: weights {p.shape} of cells {kinds} are not those of {space.name}")
    mean = p.mean(0, dtype=np.float64) if moments is None else moments[0]  # of all images, where p was reduced
    if pairs is None and pi is not None:
        pairs = pi.mean(0, dtype=np.float64)
    genotype = decode_weights(mean, pairs, kinds, space, method.decode_none, threshold_of(method), pools(method, space))
    for kind in genotype.cells:
        if not genotype.nodes(kind):
            raise ValueError(
                f"{dump}: no operation of the {kind} cell reaches the threshold {threshold_of(method)} (sparse)"
            )
    return genotype


if __name__ == "__main__":
    main(DecodeRun, decode)
