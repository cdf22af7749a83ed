"""What several test modules need: the real data where they lie, a tiny data set, tiny searches, and one that is finished."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from midas.config.settings import UserDataset
from midas.images.datasets import KNOWN, resolve
from midas.images.reading import load
from midas.plan.runs import SearchRun
from midas.search import search

TINY = {
    "nas_bench_201": {"channels": 4, "cells": 1, "epochs": 3, "batch_size": 32, "arch_lr": 0.01},
    "darts": {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 32, "arch_lr": 0.01},
}


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real data, which lies beside the repository where there is one."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared_data, tmp_path_factory):
    """The folder that CIFAR-10 lies in, all of it (8 s and 180 MB)."""
    root = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, shared_data / "unpack.py", root, "cifar10"], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """200 training and 50 test digits as a data set of the user's own: three batches of 32 in each half."""
    path = tmp_path_factory.mktemp("data") / "few.npz"
    arrays = {}
    for part, images, count in zip(
        ("train", "test"), load(KNOWN["digits"], torch.device("cpu")), (200, 50), strict=True
    ):
        arrays[f"x_{part}"] = images.pixels[:count].permute(0, 2, 3, 1).numpy()
        arrays[f"y_{part}"] = images.labels[:count].numpy()
    np.savez(path, **arrays)
    own = UserDataset(kind="npz", path=str(path), flip=False, padding=2)
    return resolve("few", {"few": own}, None, None)


@pytest.fixture(scope="session")
def search_run(few_digits):
    """Makes the run of a tiny search, with some keys changed."""

    def make(space="nas_bench_201", dataset=few_digits, seed=0, method=None, **settings):
        method = {"patch_size": 4} if method is None else method
        run = {"space": space, "dataset": dataset, "method": method, "seed": seed, "device": "cpu", "threads": 1}
        return SearchRun(**run, search=TINY[space] | settings)

    return make


@pytest.fixture(scope="session")
def searched(search_run, tmp_path_factory):
    """Folder of a finished tiny search; not to be written to."""
    folder = tmp_path_factory.mktemp("reference") / "search"
    search(search_run(), folder)
    return folder
