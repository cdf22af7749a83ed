"""A small transfer, its outputs, and processes of it whose workers are spoiled."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from spoiled import ENVIRONMENT, OUTPUTS, SMALL, SPOILED

from midas.config.settings import Transfer
from midas.images.datasets import Dataset
from midas.methods.decoding import random_genotype
from midas.plan.runs import TransferRun
from midas.spaces import get_space
from midas.transfer import transfer


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A transfer of two epochs of four steps."""
    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for part, number in (("train", 24), ("val", 6)):
        for name, gray in (("dark", 80), ("light", 160)):
            folder = root / "grays" / part / name
            folder.mkdir(parents=True)
            for image in range(number):
                pixels = draw.normal(gray, 40, (36, 36, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    random_genotype(get_space("darts"), 0).save(root / "genotype.json")
    facts = {"kind": "folder", "path": str(root / "grays"), "classes": 2, "image": (32, 32), "flip": True, "padding": 0}
    common = {"genotype": str(root / "genotype.json"), "seed": 0, "device": "cpu", "threads": 1}
    return TransferRun(**common, dataset=Dataset(name="grays", **facts), transfer=Transfer(**SMALL))


@pytest.fixture(scope="session")
def whole(run, tmp_path_factory):
    """Outputs of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "transfer"
    transfer(run, folder)
    return [(folder / name).read_bytes() for name in OUTPUTS]


@pytest.fixture
def start(run, tmp_path):
    """Starts a transfer whose workers are spoiled in the second epoch, and waits until they are."""
    started = []

    def begin(spoil, *launch, wait=True, **settings):
        (tmp_path / "spoiled.py").write_text(SPOILED.format(spoil))
        changed = run.model_copy(update={"transfer": run.transfer.model_copy(update=settings)})
        words = [*launch, str(tmp_path / "spoiled.py"), changed.model_dump_json(), str(tmp_path / "transfer")]
        environment = ENVIRONMENT | {"SPOILED": str(tmp_path / "spoiled"), "AFTER": "8" if launch else "16"}
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        while wait and not (tmp_path / "spoiled").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()
