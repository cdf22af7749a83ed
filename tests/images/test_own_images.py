"""Images of the user's own: arrays in a file, and folders read into memory."""

import numpy as np
import pytest
import torch
from image_data import CPU, own
from PIL import Image

from midas.images.datasets import class_names
from midas.images.reading import load


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    return {
        "x_train": draw.integers(0, 256, (9, 6, 4, 3), dtype=np.uint8),
        "y_train": np.arange(9) % 3,
        "x_test": draw.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8),
        "y_test": (np.arange(5) % 3).astype(np.uint8),
    }


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz(tmp_path, arrays, write):
    write(tmp_path / "own.npz", **arrays)
    dataset = own("npz", tmp_path / "own.npz", flip=False, padding=1)
    assert (dataset.classes, dataset.image, dataset.flip, dataset.padding) == (3, (6, 4), False, 1)
    assert class_names(dataset) == ["0", "1", "2"]
    for part, images in zip(("train", "test"), load(dataset, CPU), strict=True):
        np.testing.assert_array_equal(images.pixels.permute(0, 2, 3, 1), arrays[f"x_{part}"])
        assert images.pixels.dtype == torch.uint8
        assert images.labels.dtype == torch.int64
        assert images.labels.tolist() == arrays[f"y_{part}"].tolist()


WRONG_ARRAYS = {
    "an array missing": ({"y_test": None}, "lacks y_test; it needs x_train, y_train, x_test, y_test"),
    "floats": ({"x_train": np.zeros((9, 6, 4, 3))}, "x_train is float64"),
    "gray images": ({"x_test": np.zeros((5, 6, 4), np.uint8)}, r"x_test is uint8 \[5, 6, 4\]; it must be uint8"),
    "channels first": ({"x_test": np.zeros((5, 3, 6, 4), np.uint8)}, r"x_test is uint8 \[5, 3, 6, 4\]"),
    "too few labels": ({"y_train": np.arange(8)}, "y_train must hold a class number"),
    "labels as floats": ({"y_test": np.zeros(5)}, "y_test must hold a class number"),
    "negative labels": ({"y_test": np.array([-1, 0, 1, 2, 0])}, "y_test must hold a class number"),
    "no images": ({"x_test": np.zeros((0, 6, 4, 3), np.uint8), "y_test": np.zeros(0, int)}, "y_test must hold"),
    "two sizes": ({"x_test": np.zeros((5, 4, 4, 3), np.uint8)}, "x_train and x_test differ in size"),
    "objects": ({"y_test": np.array([{}] * 5, object)}, "allow_pickle"),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_a_wrong_npz_is_refused(tmp_path, arrays, wrong):
    changes, message = WRONG_ARRAYS[wrong]
    np.savez(tmp_path / "own.npz", **{name: x for name, x in (arrays | changes).items() if x is not None})
    with pytest.raises(ValueError, match=rf"own\.npz: not a usable npz data set: .*{message}"):
        own("npz", tmp_path / "own.npz")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_bits(path):
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(byte ^ 0xFF for byte in content[100:140])
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("not an archive")


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("damage", [cut_short, flip_bits, empty, text, one_array])
def test_a_damaged_npz_is_refused(tmp_path, arrays, damage):
    np.savez_compressed(tmp_path / "own.npz", **arrays)
    damage(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"own\.npz: not a usable npz data set"):
        own("npz", tmp_path / "own.npz")


@pytest.fixture
def images(tmp_path):
    """An image folder of two classes; each image has one colour, some are not square."""
    for part, shift in (("train", 0), ("val", 100)):
        for label, name in enumerate(("cat", "ant")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                colour = (10 + shift, 20 * number, 30 + 100 * label)
                Image.new("RGB", (8 + 4 * number, 8), colour).save(tmp_path / part / name / f"{number}.png")
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(images):
    dataset = own("folder", images, image_size=4)
    assert (dataset.classes, dataset.image, class_names(dataset)) == (2, (4, 4), ["ant", "cat"])
    for part, shift in zip(load(dataset, CPU), (0, 100), strict=True):
        assert part.pixels.shape == (4, 3, 4, 4)
        assert part.labels.tolist() == [0, 0, 1, 1]
        colours = [(10 + shift, 20 * number, 130 - 100 * label) for label in (0, 1) for number in (0, 1)]
        assert part.pixels[:, :, 2, 1].tolist() == [list(colour) for colour in colours]
        assert (part.pixels == part.pixels[:, :, :1, :1]).all()


def test_the_middle_of_an_image_that_is_not_square_is_taken(images):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(images / "train/ant/0.png")
    train, _ = load(own("folder", images, image_size=8), CPU)
    assert (train.pixels[0] == 200).all()


def test_a_gray_image_has_three_channels(images):
    Image.new("L", (8, 8), 77).save(images / "train/ant/0.png")
    train, _ = load(own("folder", images, image_size=8), CPU)
    assert (train.pixels[0] == 77).all()


def half(path):
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("damage", [half, empty, text])
def test_an_unreadable_image_is_named(images, damage):
    damage(images / "val/cat/1.png")
    with pytest.raises(ValueError, match=r"val/cat/1\.png: not a readable image"):
        load(own("folder", images, image_size=4), CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val").rename(root / "valid"), r"needs train/ and test/ \(or val/\)"),
        (lambda root: (root / "val/ant").rename(root / "val/bee"), "differ: ant, bee"),
        (lambda root: [path.unlink() for path in (root / "train/ant").iterdir()], "empty: ant"),
        (lambda root: [path.unlink() for path in root.glob("val/*/*")], "val"),
    ],
)
def test_a_folder_that_is_no_image_folder_is_refused(images, change, message):
    change(images)
    with pytest.raises(ValueError, match=message):
        own("folder", images, image_size=4)


def test_an_image_folder_needs_a_size(images):
    with pytest.raises(ValueError, match="image_size"):
        own("folder", images)


def test_a_data_set_that_changed_since_it_was_described_is_refused(few_digits):
    with pytest.raises(ValueError, match=r"classes 0\.\.9; few has \[3, 16, 16\] and 0\.\.4"):
        load(few_digits.model_copy(update={"classes": 5}), CPU)
    with pytest.raises(ValueError, match=r"\[3, 16, 16\] images with classes 0\.\.9; few has \[3, 32, 32\]"):
        load(few_digits.model_copy(update={"image": (32, 32)}), CPU)
