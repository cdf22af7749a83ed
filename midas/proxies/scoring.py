"""All scores of a cell, on one batch. They don't depend on what was scored before."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from midas.images.datasets import IMAGE_FOLDERS, Dataset
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.images.seeds import seed_step
from midas.proxies.classic import gradient_norms, parameters, synflow_scores
from midas.proxies.networks import make_network, probe_by_stages
from midas.proxies.robust import Constants, code_scores, outputs, paper_pair, paper_scores, total
from midas.spaces.genotype import Genotype

STREAM = "proxies"

SCORES = {
    "croze_code": "CRoZe as its authors' code computes it; it grows with the number of weights and of pixels of the features",
    "croze_paper": "CRoZe by the paper's formula, with this project's constants and features",
    "synflow": "SynFlow without any normalisation",
    "synflow_code": "SynFlow as CRoZe's code computes it, with normalisation in the reductions",
    "grad_norm": "sum over layers of the Euclidean norm of the gradient of their weights, with normalisation",
    "params": "number of parameters of the network as it is trained",
}


class Batch(NamedTuple):
    """Images float64 [B, 3, H, W], normalised, and their classes int64 [B]."""

    x: Tensor
    y: Tensor


def one_batch(dataset: Dataset, size: int, seed: int) -> Batch:
    """One augmented batch of training images.

    Raises:
        ValueError: the data set can't be read whole, has fewer images, or images that aren't finite numbers.
    """
    if dataset.kind in IMAGE_FOLDERS[:2]:
        raise ValueError(
            f"dataset: {dataset.name!r} is not allowed; its images are read one by one, for a transfer alone"
        )
    train, _ = load(dataset, torch.device("cpu"))
    x, y = next(Loader(train, Statistics.of(train), size, seed, STREAM, dataset).epoch(0))
    if not x.isfinite().all():
        raise ValueError(f"{dataset.path or dataset.name}: images with NaN or infinite pixels are not allowed")
    return Batch(x.double(), y)


def scores(
    genotype: Genotype,
    batch: Batch,
    classes: int,
    channels: int,
    cells: int,
    seed: int,
    constants: Constants | None = None,
) -> dict[str, float]:
    """The scores of a cell by name, see `SCORES`; NaN where one is no finite number.

    Args:
        genotype: of any space.
        batch: see `one_batch`.
        classes: of the network.
        channels: initial channels.
        cells: in all (DARTS) or in each of the three stages (NAS-Bench-201).
        seed: of the initial weights, which torch draws by its own rules.
        constants: of CRoZe; None for the code's.

    Raises:
        ValueError: no network can be built of it.
    """
    constants, image = constants or Constants(), (batch.x.shape[2], batch.x.shape[3])
    found = {}
    seed_step(seed, STREAM, 0, 0)
    network = make_network(genotype, channels, cells, classes, "reductions")
    found["croze_code"] = total(code_scores(probe_by_stages(genotype, network, cells), *batch, constants))
    found["synflow_code"] = sum(synflow_scores(network, image).values())
    seed_step(seed, STREAM, 0, 0)
    network = make_network(genotype, channels, cells, classes, "none")
    found["synflow"] = sum(synflow_scores(network, image).values())
    seed_step(seed, STREAM, 0, 0)
    network = make_network(genotype, channels, cells, classes, "all")
    pair = paper_pair(outputs(network), *batch, constants)
    found["croze_paper"] = total(paper_scores(pair, constants))
    found["grad_norm"] = sum(gradient_norms(pair.clean).values())
    found["params"] = float(parameters(network))
    return {name: found[name] if math.isfinite(found[name]) else math.nan for name in SCORES}
