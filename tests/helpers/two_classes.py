"""Two classes of noise as a data set of the user's own, a configuration for them, and a search that is interrupted."""

from pathlib import Path

import numpy as np
import pytest

from midas.search import search
from midas.training.bilevel import Bilevel

CELL = Path("results/two/nas_bench_201/two/midas/seed0")


def two_classes(path, shuffled=False):
    """Dark and bright noise, 200 training and 40 test images; or the same with labels that say nothing."""
    draw = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = draw.integers(0, 60, (240, 16, 16, 3)) + 150 * y[:, None, None, None]
    if shuffled:
        y = draw.permutation(y)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path, x_train=x[:200].astype("uint8"), y_train=y[:200], x_test=x[200:].astype("uint8"), y_test=y[200:]
    )


def configuration(folder, **changes):
    own = {"kind": "npz", "path": str(folder / "two.npz"), "flip": False, "padding": 0}
    search = {"channels": 4, "cells": 1, "epochs": 2, "batch_size": 32}
    experiment = {
        "space": "nas_bench_201",
        "dataset": "two",
        "methods": ["midas"],
        "search": search,
        "retrain": search | {"lr": 0.05},
    }
    places = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures")}
    return {
        **{"size": "two", "note": "two classes", "seeds": [0], "device": "cpu", "datasets": {"two": own}},
        **{"methods": {"midas": {"patch_size": 4}}, "experiments": [experiment], **places, **changes},
    }


def interrupt(run, folder, after, monkeypatch):
    whole_step, taken = Bilevel.weight_step, []

    def killed(self, *arguments):
        taken.append(1)
        if len(taken) > after:
            raise KeyboardInterrupt
        return whole_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", killed)
        with pytest.raises(KeyboardInterrupt):
            search(run, folder)
