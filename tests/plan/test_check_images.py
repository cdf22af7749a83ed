"""Numbers and sizes of images that would end in a job are refused before any."""

import numpy as np
import pytest
import torch
from small_configuration import on_cifar10, problems, small_batches, use_own, write_npz, write_table

from midas.analysis.statistics.dip import FEWEST_IMAGES
from midas.images.datasets import KNOWN
from midas.images.reading import load as load_images
from midas.plan.check import load
from midas.plan.check_images import FEWEST_TESTED, training_images


def test_images_that_cannot_be_halved_twice(raw, tmp_path):
    write_npz(tmp_path / "own.npz", side=14)
    use_own(raw, tmp_path / "own.npz")
    assert problems(raw)[0] == "experiments.0.dataset: images of 14x14 can't be halved to 1/4"


def test_known_numbers_of_images_are_those_of_the_data(digits_and_pairs):
    for dataset, images in digits_and_pairs:
        assert training_images(dataset) == len(images)


@pytest.fixture
def digits_and_pairs():
    return [(KNOWN[name], load_images(KNOWN[name], torch.device("cpu"))[0]) for name in ("digits", "digit_pairs")]


@pytest.mark.parametrize(
    ("dataset", "search", "retrain"),
    [("digits", 718, 1437), ("digit_pairs", 500, 1000), ("cifar10", 25_000, 50_000), ("svhn", 36_628, 73_257)],
)
def test_batches_larger_than_the_data_are_refused(raw, data_root, dataset, search, retrain):
    raw |= {"experiments": raw["experiments"][:1], "analysis": None, "data_root": str(data_root)}
    raw["experiments"][0]["dataset"] = dataset
    raw["experiments"][0]["search"]["batch_size"] = search
    raw["experiments"][0]["retrain"]["batch_size"] = retrain
    load(raw)
    raw["experiments"][0]["search"]["batch_size"] += 1
    raw["experiments"][0]["retrain"]["batch_size"] += 1
    first, second = problems(raw)
    assert first.startswith(
        f"experiments.0.search.batch_size: {search + 1} is not allowed; {dataset} has {search} training"
    )
    images = f"{dataset} has {retrain} training images"
    assert second == f"experiments.0.retrain.batch_size: {retrain + 1} is not allowed; {images}"


def test_batches_of_the_users_images_and_of_a_split_are_counted_too(raw, tmp_path, data_root):
    write_npz(tmp_path / "own.npz")
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["experiments"][0]["search"]["batch_size"] = 4
    halves = "own has 3 training images for the weights and 3 for the architecture"
    assert problems(raw) == [f"experiments.0.search.batch_size: 4 is not allowed; {halves}"]
    on_cifar10(raw)
    (tmp_path / "split").write_text('{"train": [0, 1, 2, 3], "valid": [5, 6, 7]}')
    halves = "cifar10 has 4 training images for the weights and 3 for the architecture"
    raw |= {"data_root": str(data_root), "cifar10_split": str(tmp_path / "split")}
    assert problems(raw) == [f"experiments.0.search.batch_size: 4 is not allowed; {halves}"]


def test_random_cells_need_images_that_can_be_halved_where_they_are_trained(raw, tmp_path):
    write_npz(tmp_path / "own.npz", side=14)
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["methods"] = {"random": {"weights": "random"}}
    raw["experiments"][0]["methods"] = ["random"]
    assert problems(raw) == ["experiments.0.dataset: images of 14x14 can't be halved to 1/4"]
    write_table(tmp_path / "t.csv")  # looked up, they are not
    load(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})


@pytest.mark.parametrize(
    ("images", "side", "batch", "decode", "wrong"),
    [
        (16, 4, 4, 1, True),
        (16, 4, 4, 2, False),
        (16, 8, 4, 1, False),  # its smallest maps are 2x2
        (6, 4, 2, None, True),  # three validation images make batches of two and one
        (8, 4, 2, None, False),
        (6, 4, 2, 3, False),
    ],
)
def test_one_image_whose_map_is_one_pixel_cannot_be_normalised(raw, tmp_path, images, side, batch, decode, wrong):
    x, y = np.zeros((images, side, side, 3), np.uint8), np.arange(images) % 2
    write_npz(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["experiments"][0]["search"]["batch_size"] = batch
    raw["experiments"][0]["retrain"]["cutout"] = 0
    raw["methods"]["midas"] |= {"decode_batch": decode, "patch_size": None}
    raw["experiments"][0]["methods"] = ["midas"]
    if not wrong:
        load(raw)
        return
    (line,) = problems(raw)
    assert line.startswith(f"methods.midas.decode_batch: {decode or 'null'} is not allowed; it cuts the {images // 2}")


def test_an_analysis_needs_two_classes_and_images_to_test(raw, tmp_path):
    x = np.zeros((10, 16, 16, 3), np.uint8)
    for classes, count, words in ((1, 10, "it has one class, and classes are compared"), (2, 6, "it has 3 images")):
        y = np.arange(count) % classes
        write_npz(tmp_path / "own.npz", x_train=x[:count], y_train=y, x_test=x[:count], y_test=y)
        use_own(raw, tmp_path / "own.npz", padding=count)
        small_batches(raw)
        load(raw)
        raw["analysis"] = {"space": "nas_bench_201", "dataset": "own", "method": "midas", "compare": ["midas"]}
        (line,) = problems(raw)
        assert line.startswith(f"analysis.dataset: 'own' is not allowed; {words}")
    assert FEWEST_TESTED == FEWEST_IMAGES
