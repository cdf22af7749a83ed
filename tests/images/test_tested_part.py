"""Which part of a folder is tested on."""

import json
from pathlib import Path

import pytest
import torch
from image_data import an_image, folder_dataset
from PIL import Image

from midas.config.settings import Transfer, UserDataset
from midas.data import prepare
from midas.images.datasets import KNOWN, part_tested, resolve
from midas.images.folders import describe
from midas.plan.runs import DataRun
from midas.running.processes import Group
from midas.training.photos import PhotoLoader


def add_part(path, name):
    """A part of other images: one of a class."""
    for label in ("0", "1"):
        (path / name / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), (250, 0, 0)).save(path / name / label / "red.jpg")


@pytest.mark.parametrize(("kind", "part"), [("folder", "test"), ("imagenet", "val"), ("digit_photos", "val")])
def test_of_val_and_test_the_documented_one_is_read_and_named(kind, part, photos):
    add_part(photos, "test")
    (photos / "test/0/more.jpg").write_bytes(an_image(photos))
    dataset = folder_dataset(photos, kind=kind)
    transfer = Transfer(dataset="mine", methods=["midas"], image_size=32, batch_size=2, workers=0)
    loader = PhotoLoader(dataset, transfer, 0, Group(torch.device("cpu")), training=False)
    assert len(loader.photos) == {"test": 3, "val": 2}[part]
    assert all(Path(file).parts[-3] == part for file, _ in loader.photos.files)
    assert describe(dataset)["test_images"] == len(loader.photos)
    assert part_tested(dataset) == {"test_part": part}


def test_the_step_names_the_tested_part(photos, tmp_path):
    for in_memory in (True, False):
        prepare(DataRun(dataset=folder_dataset(photos), in_memory=in_memory), tmp_path / "data")
        assert json.loads((tmp_path / "data/metrics.json").read_text())["test_part"] == "val"
    prepare(DataRun(dataset=KNOWN["digits"]), tmp_path / "data")
    assert "test_part" not in json.loads((tmp_path / "data/metrics.json").read_text())


def test_imagenets_own_test_images_have_no_classes_and_are_not_looked_at(photos):
    (photos / "test").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "test/ILSVRC2012_test_00000001.JPEG")
    assert describe(folder_dataset(photos, kind="imagenet"))["test_images"] == 2


def imagenet_at(path, val=("a", "b")):
    for name in ("train/a", "train/b", "val", *(f"val/{name}" for name in val)):
        (path / "imagenet" / name).mkdir(parents=True, exist_ok=True)
    return resolve("imagenet", {}, str(path), None)


def test_imagenet_is_refused_before_any_work_where_its_classes_differ(tmp_path):
    assert imagenet_at(tmp_path / "right").path == str(tmp_path / "right/imagenet")
    assert imagenet_at(tmp_path / "hidden", ("a", "b", ".c")).classes == 1000
    with pytest.raises(ValueError, match=r"imagenet/val: has no folder for each class, .*sort the images"):
        imagenet_at(tmp_path / "flat", ())
    with pytest.raises(ValueError, match=r"imagenet: train and val have other classes: b, c$"):
        imagenet_at(tmp_path / "other", ("a", "c"))


def test_an_own_folder_with_test_images_of_no_class_is_refused_before_any_work(photos):
    (photos / "test").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "test/0.jpg")
    with pytest.raises(ValueError, match=rf"^{photos}/test: holds no images in folders of their classes$"):
        resolve("mine", {"mine": UserDataset(kind="folder", path=str(photos), image_size=32)}, None, None)
