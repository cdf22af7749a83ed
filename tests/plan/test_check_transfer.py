"""What a configuration may ask of a transfer and of a measurement of cost."""

import json

import pytest
from small_configuration import COST, TRANSFER, problems

from midas.images.datasets import KNOWN
from midas.plan.check import load


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"methods": ["no_patch"]},
            "methods: 'no_patch' is no evaluated method of that experiment; allowed: midas, static",
        ),
        ({"methods": ["x"]}, "methods: method 'x' does not exist; allowed: midas, static, no_patch"),
        ({"seeds": [7]}, "seeds: 7 is not allowed; allowed: 0, 1"),
        ({"seeds": [1, 0, 1]}, "seeds: [1, 0, 1] is not allowed; each seed once"),
        ({"cells": 2}, "cells: 2 is not allowed; darts needs at least 3"),
        (
            {"auxiliary": 0.4},
            "auxiliary: 0.4 is not allowed at image_size 64; the auxiliary head is defined for 224, set 0",
        ),
        ({"image_size": 80}, "image_size: 80 is not allowed; a multiple of 32"),
        ({"gpus": 3, "batch_size": 64}, "batch_size: 64 is not allowed; a multiple of gpus (3)"),
        (
            {"batch_size": 6, "gpus": 2, "mixup": 0.2},
            "batch_size: 6 is not allowed; mixup and cutmix need an even one on each GPU",
        ),
        (
            {"image_size": 224, "channels": 8},
            "channels_last: true is not allowed on a CPU with fewer than 16 channels at image_size 224, "
            "where oneDNN 3.13 crashes; set false",
        ),
        ({"batch_size": 1438}, "batch_size: 1438 is not allowed; digit_photos has 1437 training images"),
        ({"channels": 1}, "channels: 1 is not allowed; the network for large images needs at least 2"),
        (
            {"image_size": 32, "batch_size": 2, "gpus": 2},
            "batch_size: 2 is not allowed; it is 1 image on each GPU, and batch normalisation needs two values of a map of 1x1",
        ),
        ({"epochs": 5}, "warmup_epochs: 5 is not allowed; fewer than epochs (5)"),
        (
            {"dataset": "cifar10"},
            "dataset: 'cifar10' is not allowed; allowed: digit_photos, imagenet, or a data set of kind folder",
        ),
        (
            {"dataset": "photos"},
            f"dataset: data set 'photos' does not exist, did you mean digit_photos? allowed: {', '.join(KNOWN)}",
        ),
    ],
)
def test_a_wrong_transfer_ends_in_a_line(raw, change, expected):
    raw["experiments"][1]["transfer"] = TRANSFER | change
    assert problems(raw) == [f"experiments.1.transfer.{expected}"]


def test_a_transfer_needs_a_network_for_large_images(raw):
    raw["experiments"][0]["transfer"] = TRANSFER
    assert problems(raw) == [
        "experiments.0.transfer: not allowed in nas_bench_201, whose cells have no ImageNet network; allowed: the DARTS spaces"
    ]


def test_images_of_a_transfer_have_its_size(raw):
    raw["experiments"][1]["transfer"] = TRANSFER | {"image_size": 96}
    plan = load(raw)
    run = json.loads(plan.run("transfer", "darts", "digits", "midas", 0))
    assert run["dataset"]["image"] == [96, 96]
    assert run["dataset"]["path"] == str(plan.root / "data/digit_photos/images")
    assert json.loads(plan.run("data", dataset="digit_photos"))["in_memory"] is False
    assert json.loads(plan.run("data", dataset="digits"))["in_memory"] is True


@pytest.mark.parametrize("opened", [True, False, None])
def test_images_of_a_transfer_are_opened_before_unless_the_configuration_says_no(raw, opened):
    raw["experiments"][1]["transfer"] = TRANSFER
    plan = load(raw if opened is None else raw | {"open_images": opened})
    assert json.loads(plan.run("data", dataset="digit_photos"))["opened"] is (opened is not False)
    assert json.loads(plan.run("data", dataset="digits"))["opened"] is True  # held in memory, so read in any case


def test_classes_of_imagenet_that_differ_are_refused_before_any_job(raw, tmp_path):
    for folder in ("train/a", "train/b", "val"):
        (tmp_path / "imagenet" / folder).mkdir(parents=True)
    raw["experiments"][1]["transfer"] = TRANSFER | {"dataset": "imagenet"}
    (line,) = problems(raw | {"data_root": str(tmp_path)})
    assert line.startswith(f"experiments.1.transfer.dataset: {tmp_path}/imagenet/val: has no folder for each class")


def test_large_images_are_not_searched_on(raw):
    raw["experiments"][1]["dataset"] = "digit_photos"
    raw["analysis"] = None
    assert problems(raw) == [
        "experiments.1.dataset: 'digit_photos' is not allowed; its images are read one by one, for a transfer alone"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"baseline": "x"}, "cost.baseline: method 'x' does not exist; allowed: midas, static, no_patch"),
        ({"methods": ["midas", "static"]}, "cost.methods: 'static' is the baseline; name the others alone"),
        ({"resolutions": [16, 18]}, "cost.resolutions: 18 is not allowed; images of 18x18 can't be halved to 1/4"),
        (
            {"resolutions": [24]},
            "cost.resolutions: 24 is not allowed; 4 does not divide the 6 pixels of a map of darts; "
            "allowed: 1, 2, 3, 6, 12, 24 or null",
        ),
        (
            {"patch_sizes": [3]},
            "cost.patch_sizes: 3 does not divide the 16 pixels of a map of darts; allowed: 1, 2, 4, 8, 16 or null",
        ),
    ],
)
def test_a_wrong_cost_ends_in_a_line(raw, change, expected):
    raw["experiments"][1]["cost"] = COST | change
    assert problems(raw) == [f"experiments.1.{expected}"]


def test_patches_need_a_method_that_has_them(raw):
    raw["experiments"][1]["cost"] = {"baseline": "midas", "methods": ["static"], "patch_sizes": [2]}
    assert problems(raw) == ["experiments.1.cost.patch_sizes: not allowed; the first method, 'static', has no patches"]
