"""What tests of a search read of its folder, and its supernet."""

import csv
import json

import torch

from midas import search as module
from midas.methods.composition import supernet_of
from midas.running.checkpoint import read
from midas.search import search
from midas.spaces import get_space

CPU = torch.device("cpu")
FILES = ("history.csv", "arch.npz", "example.npz")


def numbers(folder):
    """What equal runs must have in common of metrics.json."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("cost", "provenance")}


def assert_same(folder, reference):
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in reference.iterdir())
    for name in FILES:
        if (reference / name).exists():
            assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    assert numbers(folder) == numbers(reference)


def history_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def supernet_as_drawn(run, folder=None):
    """The supernet as it was drawn, or as the checkpoint of a finished search holds it."""
    module.seed_step(run.seed, "initialise", 0, 0)
    supernet = supernet_of(get_space(run.space), run.method, run.search.channels, run.search.cells, run.dataset.classes)
    if folder is not None:
        path = folder.with_name("search_checkpoint") / "newest.pt"
        supernet.load_state_dict(read(path)["state"]["supernet"])
    return supernet


def finished(run, tmp_path):
    search(run, tmp_path / "search")
    return tmp_path / "search"


METHODS = {
    "static": {"weights": "static"},
    "frozen": {"patch_size": 4, "projections": "frozen"},
    "ReLU of maps, learned scale": {
        **{"patch_size": 4, "normalise": "length", "activation": "relu", "projected": "maps", "learn_scale": True},
        **{"weight_decay": 0.1, "decoupled_weight_decay": True, "none_logit": "learned"},
    },
}
