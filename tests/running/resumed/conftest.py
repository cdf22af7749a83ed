"""Runs of the demo's steps, what they write undisturbed, and a server that starts them at once."""

import json
from functools import cache

import pytest
import yaml
from places import ROOT
from started import Server, finish

from midas.images.digits import digit_halves
from midas.images.folders import write_photos
from midas.methods.decoding import random_genotype
from midas.plan.check import load as load_config
from midas.spaces import get_space

SHORTER = {
    "search": {"batch_size": 128},
    "retrain": {"epochs": 2, "batch_size": 128},
    "transfer": {"epochs": 1, "warmup_epochs": 0},
}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The run of a step of the demo, as JSON; shorter than there."""
    folder = tmp_path_factory.mktemp("demo")
    plan = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    random_genotype(get_space("darts"), 0).save(folder / "genotype.json")
    write_photos(folder / "photos", *digit_halves())

    def make(name):
        run = json.loads(plan.run(name, "darts", "digits", "midas", 0))
        run[name] |= SHORTER[name]
        if name != "search":
            run["genotype"] = str(folder / "genotype.json")
        if name == "transfer":
            run["dataset"]["path"], run["described"] = str(folder / "photos"), None
        return json.dumps(run)

    return make


@pytest.fixture(scope="session")
def whole(demo_run, tmp_path_factory):
    """The files of a step that nothing disturbed, of each step once."""
    return cache(lambda name: finish(name, demo_run(name), tmp_path_factory.mktemp("whole") / name))


@pytest.fixture(scope="session")
def server():
    """Starts steps without their imports."""
    server = Server()
    yield server
    server.close()
