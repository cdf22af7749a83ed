"""The embedded images as a folder of photos: written once, whole, and known again."""

import io
import json

import numpy as np
import pytest
import torch
from image_data import GRAY, PARTS
from PIL import Image
from sklearn.datasets import load_digits

from midas.data import prepare
from midas.images import digits, folders
from midas.images import reading as data
from midas.images.datasets import KNOWN
from midas.images.folders import write_photos
from midas.images.listing import folder_files
from midas.plan.runs import DataRun


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_digits_are_those_of_scikit_learn():
    images, labels = load_digits(return_X_y=True)
    levels, classes = digits._digit_table()
    np.testing.assert_array_equal(levels.reshape(-1, 64), images)
    np.testing.assert_array_equal(classes, labels)


def test_missing_digits_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="scikit-learn, which is not installed"):
        digits.digit_halves()
    found = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(digits, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz: scikit-learn's digits can't be read"):
        digits.digit_halves()


def test_photos_are_the_images_enlarged_in_folders_of_their_classes(photos):
    assert sorted(contents(photos)) == [
        *("train/0/0000.jpg", "train/0/0003.jpg", "train/1/0001.jpg", "train/1/0002.jpg"),
        *("val/0/0000.jpg", "val/1/0001.jpg"),
    ]
    with Image.open(photos / "train/1/0002.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
        assert image.info["jfif"]
        pixels = np.asarray(image).astype(int)
    blocks = pixels.reshape(8, 8, 8, 8, 3).mean((1, 3, 4))
    assert np.abs(blocks - GRAY[2]).max() < 30
    assert np.corrcoef(blocks.ravel(), GRAY[2].ravel())[0, 1] > 0.99


def test_same_images_give_the_same_bytes(photos, tmp_path):
    write_photos(tmp_path / "again", *PARTS)
    assert contents(tmp_path / "again") == contents(photos)


@pytest.mark.parametrize("damage", ["missing", "cut short", "left in writing"])
def test_a_killed_write_is_completed(damage, photos):
    before, file = contents(photos), photos / "train/1/0002.jpg"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.replace(file.with_suffix(".writing")) if damage == "left in writing" else file.unlink()
    untouched = (photos / "val/0/0000.jpg").stat().st_mtime_ns
    write_photos(photos, *PARTS)
    assert contents(photos) == before
    assert (photos / "val/0/0000.jpg").stat().st_mtime_ns == untouched


def test_killed_at_any_file_it_is_completed(photos, tmp_path, monkeypatch):
    whole, images = folders._jpeg, []

    def jpeg(pixels):
        if len(images) == 3:
            raise KeyboardInterrupt
        images.append(pixels)
        return whole(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_jpeg", jpeg)
        with pytest.raises(KeyboardInterrupt):
            write_photos(tmp_path / "killed", *PARTS)
    assert len(contents(tmp_path / "killed")) == 3
    write_photos(tmp_path / "killed", *PARTS)
    assert contents(tmp_path / "killed") == contents(photos)


def test_strange_images_among_the_embedded_ones_are_refused_and_kept(photos):
    (photos / "train/0/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"train/0/holiday\.jpg: is not one of the embedded images"):
        write_photos(photos, *PARTS)
    assert (photos / "train/0/holiday.jpg").read_bytes() == b"mine"


def test_the_step_writes_and_describes_the_digits(tmp_path):
    dataset = KNOWN["digit_photos"].model_copy(update={"path": str(tmp_path / "images")})
    prepare(DataRun(dataset=dataset, in_memory=False), tmp_path / "data")
    metrics = json.loads((tmp_path / "data/metrics.json").read_text())
    assert (metrics["train_images"], metrics["test_images"], metrics["classes"]) == (1437, 360, 10)
    train, test = data.load(KNOWN["digits"], torch.device("cpu"))
    for part, images in (("train", train), ("val", test)):
        counts = [len(files) for files in folder_files(tmp_path / "images" / part).values()]
        assert counts == np.bincount(images.labels).tolist()
        number = 17
        with Image.open(tmp_path / "images" / part / str(int(images.labels[number])) / f"{number:04d}.jpg") as image:
            shown = np.asarray(image.resize((16, 16), Image.Resampling.BOX))[..., 0].ravel()
        assert np.corrcoef(shown, images.pixels[number, 0].ravel())[0, 1] > 0.95


def test_photos_are_stored_without_chroma_subsampling():
    with Image.open(io.BytesIO(folders._jpeg(GRAY[0]))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
