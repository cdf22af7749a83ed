"""What a search costs: turns and pairs on a fake clock, counts against the plain supernet, memory, the whole step."""

import csv
import json
import os
from math import comb

import numpy as np
import pytest
import torch
from plain_supernet import PlainSupernet
from torch import nn

from midas.config.method import Method
from midas.cost import cost
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.measuring import costs as module
from midas.measuring import timing
from midas.measuring.costs import Variant, comparisons, counts, peak_memory, steps_per_epoch
from midas.measuring.timing import median_interval, seconds_of, take_turns
from midas.plan.runs import CostRun
from midas.spaces import SPACES

CPU = torch.device("cpu")
METHODS = {
    "static": Method(weights="static"),
    "midas": Method(patch_size=4),
    "ps2": Method(patch_size=2),
    "no_patch": Method(patch_size=None),
    "frozen": Method(patch_size=4, projections="frozen"),
    "key_per_operation": Method(patch_size=4, keys="per_operation"),
}


@pytest.fixture
def make_run(few_digits):
    """Makes the run of a small measurement, with some keys changed."""

    def make(space="darts", search=None, **changes):
        settings = {"baseline": "static", "methods": ["midas", "no_patch"], "repeats": 2, "steps": 1} | changes
        size = {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 8} | (search or {})
        names = [settings["baseline"], *settings["methods"]]
        run = {"space": space, "dataset": few_digits, "methods": {name: METHODS[name] for name in names}}
        return CostRun(**run, seed=0, device="cpu", threads=1, search=size, cost=settings)

    return make


class Clock:
    """A clock that only moves when it is told to; a machine on it becomes slower from step to step."""

    def __init__(self, drift=0.0):
        self.now, self.drift, self.steps = 0.0, drift, 0

    def work(self, seconds):
        self.now += seconds * (1 + self.drift * self.steps)
        self.steps += 1


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: found.now)
    return found


def test_seconds_of_a_step_are_the_mean_of_those_in_a_row(clock):
    clock.drift = 1.0
    assert seconds_of(lambda: clock.work(3.0), 4, CPU) == pytest.approx(3.0 * (1 + 2 + 3 + 4) / 4)


def test_every_contestant_warms_up_once_and_the_order_is_reversed_each_repeat():
    calls = []
    found = take_turns("abc", 3, lambda name: calls.append(name) or float(len(calls)))
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert found == {"a": [4.0, 9.0, 10.0], "b": [5.0, 8.0, 11.0], "c": [6.0, 7.0, 12.0]}


def test_twice_the_steps_have_a_ratio_of_two_on_a_machine_that_slows_down(clock):
    clock.drift = 0.01
    steps = {"once": 1, "twice": 2}

    def turn(name):
        return seconds_of(lambda: [clock.work(1.0) for _ in range(steps[name])], 3, CPU)

    turns = take_turns(list(steps), 10, turn)
    assert turns["once"][-1] > 1.5 * turns["once"][0]  # unpaired, the drift would hide the difference
    ratio, low, high = median_interval(np.divide(turns["twice"], turns["once"]).tolist())
    assert ratio == pytest.approx(2, rel=0.01)
    assert low < 2 < high


@pytest.mark.parametrize("n", range(2, 31))
def test_interval_of_the_median_is_the_narrowest_pair_of_order_statistics_that_covers_95_percent(n):
    values = np.random.default_rng(n).permutation(n).astype(float)
    outside = [
        2 * sum(comb(n, j) for j in range(k)) / 2**n for k in range(n // 2 + 1)
    ]  # beyond the k-th from either end
    ranks = [k for k in range(1, n // 2 + 1) if outside[k] <= 0.05]
    expected = (ranks[-1] - 1.0, float(n - ranks[-1])) if ranks else (None, None)
    assert median_interval(values.tolist()) == (pytest.approx((n - 1) / 2), *expected)
    assert (expected == (None, None)) == (n < 6)


def test_each_part_holds_the_baseline_at_each_of_its_image_sizes(make_run):
    run = make_run(resolutions=[8, 16], patch_sizes=[2, 4])
    found = [(part, v.name, v.image, v.patch_size) for part, v in comparisons(run)]
    own = (16, 16)
    assert found == [
        *[("methods", "static", own, None), ("methods", "midas", own, 4), ("methods", "no_patch", own, None)],
        *[("resolution", "static", (8, 8), None), ("resolution", "midas", (8, 8), 4)],
        *[("resolution", "static", own, None), ("resolution", "midas", own, 4)],
        *[("patch_size", "static", own, None), ("patch_size", "midas", own, 2), ("patch_size", "midas", own, 4)],
    ]
    assert len({variant for _, variant in comparisons(run)}) == 6  # what two parts share is one


def test_two_names_of_the_same_supernet_are_measured_once(make_run):
    run = make_run(methods=["midas", "ps2"], patch_sizes=[2])
    by_name = {v.name: v for part, v in comparisons(run) if v.patch_size == 2}
    assert by_name["midas"] == by_name["ps2"]
    assert by_name["midas"] != next(v for _, v in comparisons(run) if v.patch_size == 4)


def test_steps_of_an_epoch_are_those_of_the_search(make_run, few_digits):
    run = make_run(search={"batch_size": 32})
    images, _ = load(few_digits, CPU)
    halves = [images.take(half) for half in search_halves(few_digits, len(images))]
    loaders = [Loader(half, Statistics.of(images), 32, 0, "train", few_digits) for half in halves]
    assert steps_per_epoch(run) == min(map(len, loaders)) == 3


def test_a_half_that_does_not_fill_a_batch_is_refused(make_run):
    with pytest.raises(ValueError, match="batch_size: 101 is not allowed; few has 100 images"):
        steps_per_epoch(make_run(search={"batch_size": 101}))


def plain_multiply_adds(space, channels, cells, classes, image):
    """Multiply-adds of the convolutions and linear layers of the plain static supernet, by their definition."""
    network, found = PlainSupernet(space, METHODS["static"], "edge", channels, cells, classes), []

    def add(layer, _, out):
        fan_in = layer.weight[0].numel()  # weights behind each number of the output
        found.append(out[0].numel() * fan_in)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        network(torch.zeros(2, 3, *image))
    return sum(found)


@pytest.mark.parametrize(("space", "cells"), [("darts", 4), ("nas_bench_201", 1), ("s3", 3)])
def test_multiply_adds_of_the_static_supernet_are_those_of_its_plain_layers(space, cells, make_run):
    run = make_run(space, search={"channels": 4, "cells": cells})
    expected = plain_multiply_adds(SPACES[space], 4, cells, 10, (16, 16))
    assert counts(run, Variant("static", METHODS["static"], (16, 16)))["multiply_adds"] == expected


def test_attention_adds_the_two_projections_of_each_node_and_patch(make_run):
    run = make_run("nas_bench_201", search={"channels": 4, "cells": 1})
    static, midas, no_patch = (
        counts(run, Variant(name, METHODS[name], (16, 16))) for name in ("static", "midas", "no_patch")
    )
    params = added = added_once = 0
    for width, side in ((4, 16), (8, 8), (16, 4)):  # the three cells
        for edges in (1, 2, 3):  # of the three nodes
            projections = edges * width * width + width * width
            params += projections
            added += projections * (side // 4) ** 2
            added_once += projections
    assert midas["architecture_params"] == no_patch["architecture_params"] == params
    assert static["architecture_params"] == 6 * 5
    assert midas["weights_params"] == no_patch["weights_params"] == static["weights_params"]
    assert midas["multiply_adds"] - static["multiply_adds"] == added
    assert no_patch["multiply_adds"] - static["multiply_adds"] == added_once


def test_frozen_projections_are_no_parameters_and_keys_per_operation_more_of_them(make_run):
    run = make_run()
    found = {name: counts(run, Variant(name, METHODS[name], (16, 16))) for name in METHODS}
    assert found["frozen"]["architecture_params"] == 0
    assert found["frozen"]["weights_params"] == found["midas"]["weights_params"]
    assert found["key_per_operation"]["architecture_params"] > found["midas"]["architecture_params"]


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        ({}, (2, 0)),
        ({"unrolled": {}}, (5, 0)),
        ({"flat": {}}, (5, 0)),
        ({"alignment": {}}, (4, 0)),
        ({"perturbation": {"kind": "random"}}, (2, 0)),
        ({"perturbation": {"kind": "adversarial"}}, (9, 2)),
        ({"oles": {}}, (2, 0)),
        ({"flat": {}, "oles": {}}, (6, 0)),
        ({"selection": {"fixed": True}}, (1, 1)),
        ({"partial": {}, "warmup_epochs": 1}, (2, 0)),
    ],
)
def test_passes_of_a_step_are_counted(keys, passes, make_run):
    run = make_run(search={"epochs": 2, "channels": 4})
    found = counts(run, Variant("static", Method(weights="static", **keys), (16, 16)))
    assert (found["passes"], found["forward_passes"]) == passes


def test_a_wider_supernet_and_larger_batches_take_more_memory(make_run):
    small, large = (
        peak_memory(run, comparisons(run)[0][1], CPU)
        for run in (make_run(search={"batch_size": 8}), make_run(search={"channels": 8, "batch_size": 32}))
    )
    assert large > 2 * small
    # backpropagation keeps three maps at least (4 bytes a value) of each of four convolutions on 14 edges of the first cell
    assert large > 3 * 4 * 14 * 4 * 32 * 8 * 16 * 16


def die(*_):
    os._exit(9)


def test_a_measurement_of_memory_that_is_killed_ends_in_one_line(make_run, monkeypatch):
    monkeypatch.setattr(module, "_peak_resident", die)
    run = make_run()
    with pytest.raises(ValueError, match="midas, patches of 4 on 16x16 images was killed") as error:
        peak_memory(run, comparisons(run)[1][1], CPU)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def peaks():
    """Bytes in place of measured ones, where memory itself is not what a test is about."""
    return lambda run, variant, device: 1000 * (1 + (variant.name == "midas"))


def test_the_step_writes_what_can_be_computed_again_from_its_turns(make_run, monkeypatch, tmp_path, peaks):
    monkeypatch.setattr(module, "peak_memory", peaks)
    cost(make_run("nas_bench_201", {"cells": 1}, repeats=6, resolutions=[8], patch_sizes=[2]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "steps.csv"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    with (tmp_path / "steps.csv").open() as file:
        turns = list(csv.DictReader(file))
    assert list(turns[0]) == ["repeat", "part", "method", "image_height", "image_width", "patch_size", "seconds"]
    assert (metrics["baseline"], metrics["repeats"], metrics["steps"]) == ("static", 6, 1)
    assert metrics["steps_per_epoch"] == 100 // 8

    def seconds(row, method):
        patch = "" if row["patch_size"] is None or method == "static" else str(row["patch_size"])
        key = (row["part"], method, str(row["image_height"]), patch)
        names = ("part", "method", "image_height", "patch_size")
        return [float(turn["seconds"]) for turn in turns if tuple(turn[name] for name in names) == key]

    assert [row["method"] for row in metrics["rows"]] == ["static", "midas", "no_patch", *["static", "midas"] * 2]
    for row in metrics["rows"]:
        own, baseline = seconds(row, row["method"]), seconds(row, "static")
        assert len(own) == len(baseline) == 6
        quartiles = [row[f"step_seconds{end}"] for end in ("_low", "", "_high")]
        assert quartiles == pytest.approx(np.percentile(own, [25, 50, 75]))
        ratios = np.divide(own, baseline)
        assert row["ratio"] == pytest.approx(np.median(ratios))
        assert (row["ratio_low"], row["ratio_high"]) == pytest.approx((ratios.min(), ratios.max()))
        assert row["epoch_seconds"] == pytest.approx(row["step_seconds"] * 12)
        assert row["memory_ratio"] == (2 if row["method"] == "midas" else 1)
        assert row["missing"] == ""
        if row["method"] == "static":
            assert (row["ratio"], row["ratio_low"], row["ratio_high"], row["patch_size"]) == (1, 1, 1, None)


def test_what_a_gpu_has_no_memory_for_is_left_out_of_the_turns_and_said(make_run, monkeypatch, tmp_path, peaks):
    def limited(run, variant, device):
        return None if variant.image == (32, 32) or variant.name == "no_patch" else peaks(run, variant, device)

    monkeypatch.setattr(module, "peak_memory", limited)
    cost(make_run("nas_bench_201", {"cells": 1}, resolutions=[32]), tmp_path)
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [row["method"] for row in rows if row["missing"]] == ["no_patch", "static", "midas"]
    for row in rows:
        measured = [row[key] is not None for key in ("step_seconds", "ratio", "epoch_seconds", "peak_memory_bytes")]
        assert measured == [not row["missing"]] * 4
        assert row["multiply_adds"] > 0
    assert "no_patch" not in (tmp_path / "steps.csv").read_text()
