"""Runs of the demo's steps."""

import json

import pytest
import yaml
from places import ROOT

from midas.images.digits import digit_halves
from midas.images.folders import write_photos
from midas.methods.decoding import random_genotype
from midas.plan.check import load as load_config
from midas.spaces import get_space


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The run of a step of the demo, as JSON."""
    folder = tmp_path_factory.mktemp("demo")
    plan = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    random_genotype(get_space("darts"), 0).save(folder / "genotype.json")
    write_photos(folder / "photos", *digit_halves())

    def make(name):
        run = json.loads(plan.run(name, "darts", "digits", "midas", 0))
        if name != "search":
            run["genotype"] = str(folder / "genotype.json")
        if name == "transfer":
            run["dataset"]["path"], run["described"] = str(folder / "photos"), None
        return json.dumps(run)

    return make
