"""A small configuration for tests, what changes it, and the lines that a wrong one ends in."""

import csv
import json

import numpy as np
import pytest
import yaml

from midas.config.keys import ConfigError
from midas.plan.check import load
from midas.spaces.benchmark import COLUMNS, numbers

# NAS-Bench-201 and DARTS on digits (16x16), by attention and statically: short, and independent of what the demo becomes
RAW = yaml.safe_load("""
size: test
note: for tests
seeds: [0, 1]
device: cpu
methods:
  midas: {weights: attention, patch_size: 4}
  static: {weights: static}
  no_patch: {weights: attention, patch_size: null}
experiments:
  - space: nas_bench_201
    dataset: digits
    methods: [midas, static]
    search: {channels: 8, cells: 1, epochs: 8}
    retrain: {channels: 8, cells: 1, epochs: 10}
  - space: darts
    dataset: digits
    methods: [midas, static]
    ablation: [no_patch]
    search: {channels: 4, cells: 3, epochs: 4}
    retrain: {channels: 8, cells: 3, epochs: 8, auxiliary: 0}
analysis: {space: darts, dataset: digits, method: midas, compare: [no_patch, midas]}
""")


TRANSFER = {"dataset": "digit_photos", "methods": ["midas"], "image_size": 64, "auxiliary": 0}
COST = {"baseline": "static", "methods": ["midas"], "resolutions": [16, 32], "patch_sizes": [2, 8]}


class Missing:
    """Stands for a key that is taken away; written the same in every process that collects tests."""

    def __repr__(self):
        return "MISSING"


MISSING = Missing()


def put(raw, key, value):
    """Set, or take away, a key such as "experiments.0.search.lr"."""
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    for part in path:
        raw = raw[part]
    if value is MISSING:
        del raw[last]
    else:
        raw[last] = value


def problems(raw):
    """Lines of the error that a configuration ends in."""
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


# --- files that a configuration names


def write_npz(path, side=16, **changes):
    x, y = np.zeros((6, side, side, 3), np.uint8), np.arange(6) % 3
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def small_batches(raw):
    for step in ("search", "retrain"):
        raw["experiments"][0][step]["batch_size"] = 2


def use_own(raw, path, **keys):
    raw["datasets"] = {"own": {"kind": "npz", "path": str(path), **keys}}
    raw["experiments"] = [raw["experiments"][0] | {"dataset": "own"}]
    raw["analysis"] = None


def on_cifar10(raw):
    raw["experiments"] = [raw["experiments"][0] | {"dataset": "cifar10"}]
    raw["analysis"] = None


def write_table(path, columns=COLUMNS, opener=open):
    cell, number = next(iter(numbers().items()))
    with opener(path, "wt", newline="") as file:
        rows = csv.DictWriter(file, columns)
        rows.writeheader()
        rows.writerow({name: {"arch": cell, "index": number}.get(name, 50) for name in columns})


# --- the plan


def runs(plan, step):
    cells = plan.cells(evaluated=step == "retrain")
    return [json.loads(plan.run(step, c.experiment.space, c.experiment.dataset, c.method, c.seed)) for c in cells]
