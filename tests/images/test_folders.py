"""Folders of photos are counted and checked without decoding an image."""

import pytest
from image_data import folder_dataset
from PIL import Image

from midas.data import prepare
from midas.images.folders import describe
from midas.images.listing import folder_files
from midas.plan.runs import DataRun
from midas.training.photos import Photos


def test_images_and_classes_are_counted(photos):
    numbers = describe(folder_dataset(photos))
    assert (numbers["train_images"], numbers["test_images"], numbers["classes"]) == (4, 2, 2)
    (photos / "train/0/notes.txt").write_text("no image")
    assert describe(folder_dataset(photos)) == numbers
    (photos / "val").rename(photos / "test")
    assert describe(folder_dataset(photos))["test_images"] == 2


def test_the_digest_sees_names_and_sizes(photos):
    sums = {describe(folder_dataset(photos))["sha256"]}
    file = photos / "train/0/0000.jpg"
    with file.open("ab") as stream:
        stream.write(b"\0")
    sums.add(describe(folder_dataset(photos))["sha256"])
    file.rename(file.with_name("0009.jpg"))
    sums.add(describe(folder_dataset(photos))["sha256"])
    assert len(sums) == 3


def remove(*files):
    return lambda root: [file.unlink() for pattern in files for file in root.glob(pattern)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val").rename(root / "valid"), r"needs train/ and test/ \(or val/\)"),
        (lambda root: (root / "val/0").rename(root / "val/2"), r"train and val have other classes: 0, 2$"),
        (remove("train/1/*"), r"train: no images of 1$"),
        (remove("val/0/*", "val/1/*"), r"val: no images of 0, 1$"),
        (lambda root: [(root / part / "1").rename(root / f"{part}1") for part in ("train", "val")], "has 1 classes"),
    ],
)
def test_a_folder_that_is_not_as_described_is_refused(change, message, photos, tmp_path):
    change(photos)
    with pytest.raises(ValueError, match=message):
        prepare(DataRun(dataset=folder_dataset(photos), in_memory=False), tmp_path / "data")
    assert not (tmp_path / "data/metrics.json").exists()


def test_missing_imagenet_is_said_in_one_line(tmp_path):
    dataset = folder_dataset(tmp_path / "imagenet", 1000, "imagenet")
    with pytest.raises(ValueError, match=r"imagenet: ImageNet is not downloaded; put .*data_root$") as caught:
        describe(dataset)
    assert "\n" not in str(caught.value)


def test_imagenet_with_all_test_images_in_one_folder_is_refused(tmp_path):
    for part in ("train/cat", "train/dog", "val"):
        (tmp_path / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / part / "0.jpg")
    with pytest.raises(ValueError, match="train and val have other classes: cat, dog"):
        describe(folder_dataset(tmp_path, 2, "imagenet"))


def test_no_image_is_decoded_to_count_them(photos, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert describe(folder_dataset(photos))["train_images"] == 4


def test_classes_are_numbered_in_the_order_of_their_files(tmp_path):
    for name in ("b", "10", "9", "B"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels.txt").write_text("")
    assert list(folder_files(tmp_path)) == Photos(tmp_path, 0).classes == ["10", "9", "B", "b"]
