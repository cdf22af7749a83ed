"""Data that a configuration names: the user's own, the published sets and where they lie."""

from pathlib import Path

import numpy as np
import pytest
from small_configuration import on_cifar10, problems, small_batches, use_own, write_npz

from midas.plan.check import load


def test_a_data_set_of_the_user(raw, tmp_path):
    write_npz(tmp_path / "own.npz")
    use_own(raw, tmp_path / "own.npz", padding=1)
    small_batches(raw)
    dataset = load(raw).dataset("own")
    assert (dataset.classes, dataset.image, dataset.padding, dataset.flip) == (3, (16, 16), 1, True)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "data set 'own': {path} does not exist"),
        (lambda path: path.write_bytes(b"PK\x03\x04 damaged"), "{path}: not a usable npz data set: "),
        (
            lambda path: write_npz(path, y_test=None),
            "{path}: not a usable npz data set: lacks y_test; it needs x_train, ",
        ),
        (
            lambda path: write_npz(path, x_train=np.zeros((6, 16, 16), np.uint8)),
            "{path}: not a usable npz data set: x_train is",
        ),
    ],
)
def test_a_data_set_that_cannot_be_used(raw, tmp_path, write, message):
    path = tmp_path / "own.npz"
    write(path)
    use_own(raw, path)
    (line,) = problems(raw)
    assert line.startswith("experiments.0.dataset: " + message.format(path=path))


def test_an_image_folder_without_a_size(raw, tmp_path):
    use_own(raw, tmp_path, kind="folder")
    assert problems(raw) == [f"experiments.0.dataset: {tmp_path}: an image folder needs the key image_size"]


NEEDED = "cifar-10-batches-py/data_batch_1, which cifar10 needs"


def test_a_data_root_that_is_no_folder(raw):
    on_cifar10(raw)
    assert problems(raw | {"data_root": "/no/such"}) == [
        "data_root: '/no/such' is not an existing folder",
        f"experiments.0.dataset: data folder '/no/such' has no {NEEDED}",
    ]


def test_a_data_root_with_a_name_too_long(raw):
    assert problems(raw | {"data_root": "a" * 5000})[0].endswith("is not an existing folder")


def test_a_data_root_without_the_data(raw, tmp_path):
    on_cifar10(raw)
    assert problems(raw | {"data_root": str(tmp_path)}) == [
        f"experiments.0.dataset: data folder '{tmp_path}' has no {NEEDED}"
    ]


def test_the_data_folder_of_the_environment(raw, tmp_path, data_root, monkeypatch):
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(tmp_path))
    assert problems(raw) == [f"experiments.0.dataset: data folder '{tmp_path}' has no {NEEDED}"]
    assert load(raw | {"data_root": str(data_root)}).dataset("cifar10").path == str(data_root)


def test_the_data_folder_of_the_environment_is_used(raw, data_root, monkeypatch):
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(data_root))
    dataset = load(raw).dataset("cifar10")
    assert (dataset.path, dataset.download) == (str(data_root), False)


def test_without_a_data_folder_data_are_downloaded(raw):
    on_cifar10(raw)
    dataset = load(raw).dataset("cifar10")
    assert (dataset.path, dataset.download) == ("data", True)


def test_figures_are_redrawn_where_the_data_are_not(raw, tmp_path, monkeypatch):
    """With all results at hand nothing is asked of the data."""
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(tmp_path))
    for method in ("midas", "static"):
        for seed in (0, 1):
            for step in ("search", "retrain"):
                assert problems(raw)
                folder = Path(raw["results_dir"]) / f"test/nas_bench_201/cifar10/{method}/seed{seed}/{step}"
                folder.mkdir(parents=True)
                (folder / "metrics.json").touch()
    load(raw)
