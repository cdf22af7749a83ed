"""From a space to a search, a cell, a network and its weights, in a few lines of Python.

Each is a thin way to what the steps of the workflow use; settings are the keys of config/README.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from midas.config.keys import parse
from midas.config.method import UNSEARCHED, Method
from midas.config.settings import Search
from midas.decode import decode_dump
from midas.images.datasets import IMAGE_FOLDERS, resolve
from midas.methods.composition import compose
from midas.networks.saved import Description, load_network
from midas.networks.skeletons import build as build_network
from midas.plan.runs import SearchRun
from midas.search import search as run_search
from midas.spaces import Space, get_space
from midas.spaces.genotype import Genotype
from midas.spaces.given import read_given
from midas.supernet.network import Supernet
from midas.training.bilevel import make_supernet


def _searched(keys: dict[str, Any] | None) -> Method:
    """A method that searches.

    Raises:
        ValueError: a key can't be used, or it searches nothing.
    """
    method: Method = parse(keys or {}, Method)
    if method.weights in UNSEARCHED:
        raise ValueError(f"weights: {method.weights!r} is not allowed; nothing is searched")
    return method


def space(name: str) -> Space:
    """A search space by name, e.g. "darts", "nas_bench_201", "s2" or "wide_regular".

    Raises:
        ValueError: there is no such space.
    """
    return get_space(name, False)


def supernet(
    space: str = "nas_bench_201",
    method: dict[str, Any] | None = None,
    classes: int = 10,
    device: str = "cpu",
    **search: Any,
) -> Supernet:
    """A supernet as a search begins with it: images [B, 3, H, W] to logits [B, classes].

    Args:
        space: name of the space.
        method: keys of a method; None for MIDAS with its defaults.
        classes: number of classes.
        device: "cpu" or "cuda".
        search: keys of a search; `channels`, `cells` and `epochs` are needed.

    Raises:
        ValueError: there is no such space, or a key can't be used.
    """
    chosen, settings = _searched(method), parse(search, Search)
    composition = compose(chosen, get_space(space, chosen.offer_none), settings.epochs)
    return make_supernet(composition, settings, classes, torch.device(device))


def search(
    space: str = "nas_bench_201",
    dataset: str = "digits",
    method: dict[str, Any] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    data_root: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    **settings: Any,
) -> Genotype:
    """Search a cell.

    Args:
        space: name of the space.
        dataset: digits, digit_pairs (both embedded), cifar10, cifar100 or svhn.
        method: keys of a method; None for MIDAS with its defaults.
        seed: of weights and images.
        folder: where history, dump and checkpoint go; given again, a killed search goes on. None: nothing stays.
        data_root: folder with the published data sets.
        device: "cpu", "cuda" or "auto".
        threads: of a CPU.
        settings: keys of a search; `channels`, `cells` and `epochs` are needed.

    Raises:
        ValueError: something that was given can't be used.
    """
    chosen, known = _searched(method), resolve(dataset, {}, data_root, None)
    if known.kind in IMAGE_FOLDERS:
        raise ValueError(f"dataset {dataset!r} is not allowed; its images are read one by one, for a transfer alone")
    if threads < 1:
        raise ValueError(f"threads: {threads} is not allowed; one or more")
    run = parse(
        {
            "space": space,
            "dataset": known,
            "method": chosen.model_dump(),
            "search": settings,
            "seed": seed,
            "device": device,
            "threads": threads,
        },
        SearchRun,
    )
    if folder is None:
        with tempfile.TemporaryDirectory() as kept:
            run_search(run, Path(kept) / "search")
            return decode(Path(kept) / "search/arch.npz", space, method)
    run_search(run, Path(folder))
    return decode(Path(folder) / "arch.npz", space, method)


def decode(dump: str | Path, space: str, method: dict[str, Any] | None = None) -> Genotype:
    """The cell that the dump of a search (arch.npz) stands for.

    Args:
        dump: the file.
        space: name of the space.
        method: keys of the method that searched.

    Raises:
        ValueError: it is no dump of this space.
    """
    chosen = _searched(method)
    return decode_dump(Path(dump), get_space(space, chosen.offer_none), chosen)


def build(
    cell: Genotype | str | Path,
    channels: int,
    cells: int,
    classes: int = 10,
    auxiliary: bool = False,
    imagenet: bool = False,
) -> nn.Module:
    """The network of a cell, not yet trained: images [B, 3, H, W] to logits [B, classes].

    Args:
        cell: a genotype, its text (of DARTS, NAS-Bench-201 or NASLib), or a file that holds one.
        channels: initial channels.
        cells: cells, in all (DARTS) or in each of the three stages (NAS-Bench-201).
        classes: number of classes.
        auxiliary: whether a DARTS network gets its auxiliary head.
        imagenet: whether a DARTS network gets the stem for 224x224 pixels.

    Raises:
        ValueError: it is no cell, or can't be built so.
    """
    genotype = cell if isinstance(cell, Genotype) else read_given(str(cell))
    return build_network(genotype, channels, cells, classes, auxiliary, imagenet)


def load(path: str | Path, device: str = "cpu") -> tuple[nn.Module, Description]:
    """A trained network of a model.safetensors in evaluation mode, and what it is; its `normalise` takes pixels of 0..255.

    Raises:
        ValueError: it is no file that a retraining or a transfer wrote.
    """
    return load_network(Path(path), device)
