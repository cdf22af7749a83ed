"""What several folders of tests need: real data where they lie, tiny data sets, runs, configurations, a finished search."""

import copy
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import SHARED
from small_configuration import RAW
from transfers import COLOURS, DARTS, SMALL, TEST_IMAGES

from midas.config.settings import Transfer, UserDataset
from midas.images.datasets import FILES, KNOWN, Dataset, resolve
from midas.images.reading import load
from midas.plan.runs import SearchRun, TransferRun
from midas.search import search
from midas.spaces.genotype import parse
from midas.training.bilevel import Bilevel

SLOWEST = ("workflow/test_workflow.py",)
"""Modules that take longest, the longest first: two processes that share the tests then end at about the same time."""
TINY = {
    "nas_bench_201": {"channels": 4, "cells": 1, "epochs": 3, "batch_size": 32, "arch_lr": 0.01},
    "darts": {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 32, "arch_lr": 0.01},
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Begin with the slowest modules; all others keep their order."""
    tests = Path(__file__).parent
    rank = {tests / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real data, which lies beside the repository where there is one."""
    folder = SHARED / "data"
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


@pytest.fixture
def no_data_of_this_machine(monkeypatch):
    """No folder of data is named by the environment."""
    monkeypatch.delenv("MIDAS_DATA", raising=False)


@pytest.fixture
def raw(tmp_path, no_data_of_this_machine):
    """A small configuration that may be changed."""
    return copy.deepcopy(RAW) | {"results_dir": str(tmp_path / "results")}


@pytest.fixture
def data_root(tmp_path):
    """A folder that looks as if the published data sets lay in it; planning doesn't open them."""
    for files in FILES.values():
        for file in files:
            (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / file).touch()
    return tmp_path / "data"


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """JPEGs of several sizes, noise on three colours, which are the classes: 48 training and 21 test images."""
    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "colours"
    for part, number in (("train", 16), ("val", TEST_IMAGES // 3)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for image in range(number):
                shape = (*draw.integers(32, 48, 2), 3)
                pixels = draw.normal(colour, 60, shape).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.jpg", quality=90)
    return Dataset(name="colours", kind="folder", path=str(root), classes=3, image=(32, 32), flip=True, padding=0)


@pytest.fixture(scope="session")
def transfer_run(colours, tmp_path_factory):
    """Makes a small run, with some keys changed."""

    def make(text=DARTS, seed=0, dataset=colours, **settings):
        path = tmp_path_factory.mktemp("cell") / "genotype.json"
        parse(text).save(path)
        size = (settings.get("image_size", 32),) * 2
        return TransferRun(
            genotype=str(path),
            dataset=dataset.model_copy(update={"image": size}),
            seed=seed,
            device="cpu",
            threads=1,
            transfer=Transfer(**SMALL | settings),
        )

    return make


@pytest.fixture
def steps(monkeypatch):
    """Numbers of steps that searches have taken."""
    taken, whole_step = [], Bilevel.weight_step

    def counted(self, *arguments):
        taken.append(1)
        return whole_step(self, *arguments)

    monkeypatch.setattr(Bilevel, "weight_step", counted)
    return taken


@pytest.fixture(autouse=True, scope="module")
def _no_process_left_behind():
    """A loader's worker that a test leaves shields itself from SIGTERM: torch and Python would wait for it at the very end."""
    yield
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error in the next test
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
