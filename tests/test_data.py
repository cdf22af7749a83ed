import bz2
import codecs
import gzip
import hashlib
import http.server
import io
import json
import lzma
import pickle
import re
import tarfile
import threading
import zipfile
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from midas.config.settings import UserDataset
from midas.data import prepare
from midas.images import reading as data
from midas.images.datasets import KNOWN, class_names, resolve
from midas.images.digits import PAIRS_PER_CLASS
from midas.images.halves import read_split, search_halves
from midas.images.loader import Loader, Statistics, cutout, in_order, random_crop
from midas.images.reading import Images, load
from midas.images.seeds import generator
from midas.plan.runs import DataRun

CPU = torch.device("cpu")


def own(kind, path, **keys):
    return resolve("mine", {"mine": UserDataset(kind=kind, path=str(path), **keys)}, None, None)


@pytest.fixture(scope="module")
def digits():
    return load(KNOWN["digits"], CPU)


@pytest.fixture(scope="module")
def pairs():
    return load(KNOWN["digit_pairs"], CPU)


# --- embedded images


def test_digits_are_all_of_scikit_learns_with_their_labels(digits):
    train, test = digits
    assert train.pixels.shape == (1437, 3, 16, 16)
    assert test.pixels.shape == (360, 3, 16, 16)
    original = load_digits()
    levels = np.round(np.arange(17) * 255 / 16).astype(np.uint8)
    expected = sorted(
        (levels[x.astype(int)].tobytes(), y) for x, y in zip(original.images, original.target, strict=True)
    )
    both = [(x[0, ::2, ::2].numpy().tobytes(), int(y)) for part in digits for x, y in zip(*part, strict=True)]
    assert sorted(both) == expected
    for pixels, _ in digits:
        assert torch.equal(
            pixels, pixels[:, :1, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3).expand_as(pixels)
        )


def test_both_parts_of_the_digits_have_all_classes(digits):
    for part in digits:
        counts = torch.bincount(part.labels, minlength=10) / len(part)
        assert counts.min() > 0.07
        assert counts.max() < 0.13


def test_pairs_show_the_digits_that_their_labels_name(digits, pairs):
    for part, single, count in zip(pairs, digits, PAIRS_PER_CLASS.values(), strict=True):
        assert part.pixels.shape == (100 * count, 3, 16, 32)
        assert torch.equal(torch.bincount(part.labels), torch.full((100,), count))
        label_of = {image.numpy().tobytes(): int(label) for image, label in zip(*single, strict=True)}
        left = [label_of[image.numpy().tobytes()] for image in part.pixels[..., :16]]
        right = [label_of[image.numpy().tobytes()] for image in part.pixels[..., 16:]]
        assert part.labels.tolist() == [10 * a + b for a, b in zip(left, right, strict=True)]


def test_no_digit_of_a_test_image_is_among_the_training_pairs(pairs):
    train, test = ({half.numpy().tobytes() for image in part.pixels for half in image.split(16, 2)} for part in pairs)
    assert len(train) > 500
    assert len(test) > 200
    assert not train & test


def test_pairs_do_not_repeat_one_image(pairs):
    for part in pairs:
        assert len({image.numpy().tobytes() for image in part.pixels}) > 0.98 * len(part)


def test_class_names():
    assert class_names(KNOWN["digits"]) == list("0123456789")
    assert class_names(KNOWN["digit_pairs"])[7:12] == ["07", "08", "09", "10", "11"]
    assert class_names(KNOWN["cifar10"])[3] == "cat"


# --- statistics and batches in order


def test_statistics_are_those_of_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5)) // np.array([1, 2, 3])[None, :, None, None]
    statistics = Statistics.of(Images(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(50)))
    np.testing.assert_allclose(statistics.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(statistics.std.flatten(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_normalised_images_have_mean_0_and_deviation_1(digits):
    x = Statistics.of(digits[0]).normalise(digits[0].pixels)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)


def test_a_set_of_one_gray_value_is_no_division_by_zero():
    images = Images(torch.full((4, 3, 2, 2), 9, dtype=torch.uint8), torch.zeros(4))
    assert torch.equal(Statistics.of(images).normalise(images.pixels), torch.zeros(4, 3, 2, 2))


def test_images_in_order_are_all_images_unchanged(digits):
    test, statistics = digits[1], Statistics.of(digits[0])
    x, y = (torch.cat(parts) for parts in zip(*in_order(test, statistics, 64), strict=True))
    assert torch.equal(x, statistics.normalise(test.pixels))
    assert torch.equal(y, test.labels)
    sizes = [len(y) for _, y in in_order(test, statistics, 64)]
    assert max(sizes) <= 64
    assert max(sizes) - min(sizes) <= 1


# --- augmentation against one image at a time


def naive_crop(image, padding, down, right):
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for c in range(channels):
        for row in range(height):
            for column in range(width):
                r, k = row + down - padding, column + right - padding
                if 0 <= r < height and 0 <= k < width:
                    result[c, row, column] = image[c, r, k]
    return result


def naive_cutout(image, side, row, column):
    result = image.clone()
    for r in range(row - side // 2, row - side // 2 + side):
        for c in range(column - side // 2, column - side // 2 + side):
            if 0 <= r < image.shape[1] and 0 <= c < image.shape[2]:
                result[:, r, c] = 0
    return result


@pytest.mark.parametrize("padding", [1, 3])
def test_crop(padding):
    x = torch.randint(1, 256, (40, 3, 6, 9), dtype=torch.uint8, generator=generator(0, "x", 0, 0))
    shift = torch.randint(2 * padding + 1, (2, 40), generator=generator(0, "crop", 0, 0))
    down, right = shift
    expected = torch.stack(
        [naive_crop(image, padding, int(d), int(r)) for image, d, r in zip(x, down, right, strict=True)]
    )
    assert torch.equal(random_crop(x, padding, shift), expected)
    assert {*down.tolist()} == {*right.tolist()} == {*range(2 * padding + 1)}


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout(side):
    x = torch.rand(60, 3, 8, 10, generator=generator(0, "x", 0, 0)) + 1
    draw = generator(0, "cutout", 0, 0)
    rows, columns = torch.randint(8, (60,), generator=draw), torch.randint(10, (60,), generator=draw)
    expected = torch.stack([naive_cutout(i, side, int(r), int(c)) for i, r, c in zip(x, rows, columns, strict=True)])
    result = cutout(x, side, torch.stack([rows, columns]))
    assert torch.equal(result, expected)
    blanked = (result == 0).all(1).sum((1, 2))
    assert blanked.max() == side * side
    assert side == 1 or blanked.min() < side * side  # some reach over the border


@pytest.mark.parametrize(("flip", "padding", "side"), [(True, 2, 3), (True, 0, 0), (False, 2, 0)])
def test_a_batch_is_cropped_flipped_normalised_and_cut_out(digits, flip, padding, side):
    images, statistics = digits[0].take(torch.arange(64)), Statistics.of(digits[0])
    dataset = KNOWN["digits"].model_copy(update={"flip": flip, "padding": padding})
    loader = Loader(images, statistics, 32, seed=5, stream="train", dataset=dataset, cutout=side)
    order = torch.randperm(64, generator=generator(5, "train", 3, 0))
    for step, (x, y) in enumerate(loader.epoch(3)):
        index, draw = order[32 * step : 32 * step + 32], generator(5, "train", 3, step + 1)
        shift = torch.randint(2 * padding + 1, (2, 32), generator=draw) if padding else torch.zeros(2, 32)
        flips = torch.rand(32, generator=draw) < 0.5 if flip else torch.zeros(32)
        rows = torch.randint(16, (32,), generator=draw) if side else torch.zeros(32)
        columns = torch.randint(16, (32,), generator=draw) if side else torch.zeros(32)
        assert torch.equal(y, images.labels[index])
        for i in range(32):
            image = naive_crop(images.pixels[index[i]], padding, int(shift[0, i]), int(shift[1, i]))
            image = torch.stack([row.flip(-1) for row in image.unbind(1)], 1) if flips[i] else image
            image = statistics.normalise(image[None])[0]
            assert torch.equal(x[i], naive_cutout(image, side, int(rows[i]), int(columns[i])))
        assert not flip or 5 < flips.sum() < 27


# --- the loader


def make_loader(digits, seed=0, stream="train", batch_size=64):
    return Loader(digits[0], Statistics.of(digits[0]), batch_size, seed, stream, KNOWN["digits"])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_batches_are_a_function_of_seed_stream_epoch_and_step(digits):
    whole = [list(make_loader(digits).epoch(epoch)) for epoch in range(3)]
    torch.manual_seed(99)
    resumed = make_loader(digits)
    for step, batch in enumerate(resumed.epoch(2)):
        torch.rand(step + 1)  # the global generator has no part in it
        assert same(batch, whole[2][step])
    middle = resumed.epoch(1)
    for _ in range(4):
        next(middle)
    assert same(next(middle), whole[1][4])


@pytest.mark.parametrize("other", [{"seed": 1}, {"stream": "valid"}, {"epoch": 1}])
def test_another_seed_stream_or_epoch_draws_other_batches(digits, other):
    epoch = other.get("epoch", 0)
    loader = make_loader(digits, **{key: value for key, value in other.items() if key != "epoch"})
    first, second = list(make_loader(digits).epoch(0)), list(loader.epoch(epoch))
    assert len(first) == len(second) == 22
    assert not any(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_steps_of_an_epoch_are_augmented_differently(digits):
    one = Images(digits[0].pixels[:1].repeat(64, 1, 1, 1), digits[0].labels[:1].repeat(64))
    loader = Loader(one, Statistics.of(digits[0]), 32, 0, "train", KNOWN["digits"])
    (first, _), (second, _) = loader.epoch(0)
    assert not torch.equal(first, second)


def test_an_epoch_shows_each_image_at_most_once_and_leaves_the_rest_out(digits):
    numbered = Images(digits[0].pixels, torch.arange(len(digits[0])))
    loader = Loader(numbered, Statistics.of(digits[0]), 64, 0, "train", KNOWN["digits"])
    seen = torch.cat([y for _, y in loader.epoch(0)])
    assert len(seen) == len(seen.unique()) == 64 * len(loader) == 1437 // 64 * 64
    assert len(torch.cat([seen, *(y for _, y in loader.epoch(1))]).unique()) > len(seen)


def test_fewer_images_than_a_batch_are_refused(digits):
    with pytest.raises(ValueError, match="batch_size: 1438 is not allowed; digits has 1437 images for train"):
        make_loader(digits, batch_size=1438)


# --- the halves of a search


@pytest.mark.parametrize("count", [1437, 1438])
def test_halves_are_disjoint_and_cover_all(count):
    train, valid = search_halves(KNOWN["digits"], count)
    assert abs(len(train) - len(valid)) <= 1
    assert torch.cat([train, valid]).sort().values.tolist() == list(range(count))
    torch.manual_seed(3)
    assert same(search_halves(KNOWN["digits"], count), (train, valid))


def test_halves_of_sorted_images_have_all_classes(digits):
    labels = digits[0].labels.sort().values
    for half in search_halves(KNOWN["digits"], len(labels)):
        assert torch.bincount(labels[half]).min() > 50


def with_split(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    return KNOWN["digits"].model_copy(update={"split": str(tmp_path / "split.json")})


def test_halves_are_those_of_the_split_file(tmp_path):
    dataset = with_split(tmp_path, '{"train": [5, 0, 2], "valid": [1, 4]}')
    train, valid = search_halves(dataset, 6)
    assert (train.tolist(), valid.tolist()) == ([0, 2, 5], [1, 4])


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/split.json", content)
    return file.getvalue()


PACKINGS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "byte-order mark": lambda content: codecs.BOM_UTF8 + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "UTF-32, compressed": lambda content: gzip.compress(content.decode().encode("utf-32")),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_split_file_may_be_packed_and_be_as_its_authors_ship_it(tmp_path, packing):
    for content in (
        '{"train": [5, 0, 2], "valid": [1, 4]}',
        '{\n  "train" : ["int" , ["5", "0", "2"]],\n  "valid" : ["int" , ["1", "4"]]\n}',
    ):
        (tmp_path / "split").write_bytes(PACKINGS[packing](content.encode()))
        assert read_split(tmp_path / "split") == {"train": [5, 0, 2], "valid": [1, 4]}


def two_files():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("b", "2")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lzma.compress(b"{}" * 99)[:-20], "a xz file that can't be unpacked: "),
        (bz2.compress(b"{}" * 99)[:-20], "a bzip2 file that can't be unpacked: "),
        (zipped(b"{}" * 99)[:-20], "a zip file that can't be unpacked: "),
        (two_files(), "a zip file that can't be unpacked: it holds 2 files; one is wanted"),
        (b"(\xb5/\xfd...", "a Zstandard file; allowed: plain text, gzip, bzip2, xz, zip"),
        ("{}".encode("utf-16-be"), "not text in UTF-8: it holds bytes of zero"),
        (b'{"train": "\xe4"}', "not text in UTF-8: "),
    ],
)
def test_a_file_that_holds_no_text_is_refused_in_words(tmp_path, content, message):
    (tmp_path / "split").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_split(tmp_path / "split")


WRONG_SPLITS = {
    "overlapping": '{"train": [0, 1], "valid": [1, 2]}',
    "twice in one list": '{"train": [0, 0], "valid": [1, 2]}',
    "too large": '{"train": [0, 1], "valid": [2, 6]}',
    "negative": '{"train": [0, -1], "valid": [2, 3]}',
    "empty": '{"train": [], "valid": []}',
    "one list empty": '{"train": [0, 1], "valid": []}',
    "no list": '{"train": [0, 1]}',
    "a list of lists": '{"train": [[0, 1]], "valid": [2]}',
    "half an image": '{"train": [0.5], "valid": [2]}',
    "infinite": '{"train": [1e999], "valid": [2]}',
}


@pytest.mark.parametrize("wrong", WRONG_SPLITS)
def test_wrong_split_lists_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"split\.json"):
        search_halves(with_split(tmp_path, WRONG_SPLITS[wrong]), 6)


def test_halves_of_cifar10_are_the_benchmarks(shared_data):
    path = shared_data / "nas_bench_201/splits/cifar-split.json.gz"
    lists = json.loads(gzip.decompress(path.read_bytes()))
    train, valid = search_halves(KNOWN["cifar10"].model_copy(update={"split": str(path)}), 50_000)
    assert train.tolist() == sorted(map(int, lists["train"]))
    assert valid.tolist() == sorted(map(int, lists["valid"]))
    assert len(train) == len(valid) == 25_000
    assert len(torch.cat([train, valid]).unique()) == 50_000


# --- images of the user's own


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


# --- real CIFAR-10 (8 s and 180 MB in a temporary folder)


def test_cifar10(cifar10):
    dataset = resolve("cifar10", {}, str(cifar10), None)
    assert not dataset.download
    train, test = load(dataset, CPU)
    assert train.pixels.shape == (50_000, 3, 32, 32)
    assert test.pixels.shape == (10_000, 3, 32, 32)
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    statistics = Statistics.of(train)
    np.testing.assert_allclose(statistics.mean.flatten() / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(statistics.std.flatten() / 255, [0.2470, 0.2435, 0.2616], atol=5e-5)


def test_a_damaged_cifar10_is_refused(cifar10, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in (cifar10 / folder.name).iterdir():  # others need the folder as it is
        (folder / path.name).symlink_to(path)
    batch = folder / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[1_000_000] ^= 1
    batch.unlink()
    batch.write_bytes(content)
    with pytest.raises(ValueError, match="cifar10 can't be read"):
        load(resolve("cifar10", {}, str(tmp_path), None), CPU)


# --- the step


def test_the_step_describes_the_data(few_digits, tmp_path):
    prepare(DataRun(dataset=few_digits), tmp_path / "data")
    metrics = json.loads((tmp_path / "data/metrics.json").read_text())
    train, test = load(few_digits, CPU)
    assert (metrics["train_images"], metrics["test_images"]) == (len(train), len(test)) == (200, 50)
    np.testing.assert_allclose(metrics["mean"], (train.pixels / 255).mean((0, 2, 3)), atol=2e-6)
    np.testing.assert_allclose(metrics["std"], (train.pixels / 255).std((0, 2, 3), correction=0), atol=2e-6)
    assert len(metrics["sha256"]) == 64


def test_the_digest_of_the_data_sees_a_changed_label(few_digits, tmp_path):
    with np.load(few_digits.path) as file:
        arrays = dict(file)
    arrays["y_test"][0] = (arrays["y_test"][0] + 1) % 10
    np.savez(tmp_path / "changed.npz", **arrays)
    sums = []
    for name, path in (("a", few_digits.path), ("b", str(tmp_path / "changed.npz"))):
        prepare(DataRun(dataset=few_digits.model_copy(update={"path": path})), tmp_path / name)
        sums.append(json.loads((tmp_path / name / "metrics.json").read_text())["sha256"])
    assert sums[0] != sums[1]


# --- downloads


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the archive after some failures."""

    failures: ClassVar[list[str]] = []
    archive: ClassVar[bytes] = b""

    def do_GET(self):
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "busy":
            return self.send_error(503)
        content = b"not an archive" if failure == "wrong" else self.archive
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if failure == "lost" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def tiny_cifar10(monkeypatch, tmp_path):
    """torchvision's CIFAR-10 with two images a file, on a server of this machine; returns the waits to come."""
    monkeypatch.setattr(CIFAR10, "base_folder", "tiny")
    content, sums = {}, {}
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]:
        labels = {"label_names": [str(n) for n in range(10)]}
        batch = {"data": np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8), "labels": [3, 7]}
        content[name] = pickle.dumps(labels if name == "batches.meta" else batch)
        sums[name] = hashlib.md5(content[name]).hexdigest()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, file in content.items():
            entry = tarfile.TarInfo(f"tiny/{name}")
            entry.size = len(file)
            tar.addfile(entry, io.BytesIO(file))
    monkeypatch.setattr(Handler, "archive", packed.getvalue())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/tiny.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.getvalue()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n in sums if n.startswith("data")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    # the file is asked for once, not first for a redirection too
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, max_hops: url)
    waits = []
    monkeypatch.setattr(data, "pause", lambda seconds, _: waits.append(seconds))
    yield waits
    server.shutdown()


@pytest.mark.parametrize("failures", [[], ["busy"], ["lost"], ["wrong"], ["lost", "busy", "wrong"]])
def test_a_lost_download_is_tried_again(tiny_cifar10, failures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Handler, "failures", list(failures))
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(tmp_path / "data"), "download": True})
    train, test = load(dataset, CPU)
    assert (len(train), len(test)) == (10, 2)
    assert tiny_cifar10 == list(data.RETRY_AFTER[: len(failures)])
    assert capsys.readouterr().err.count("tried again in") == len(failures)


def test_a_download_that_stays_wrong_is_refused_and_removed(tiny_cifar10, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "failures", ["wrong"] * 10)
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(tmp_path / "data"), "download": True})
    with pytest.raises(ValueError, match="cifar10 can't be read"):
        load(dataset, CPU)
    assert len(tiny_cifar10) == len(data.RETRY_AFTER)
    assert not list((tmp_path / "data").rglob("*.gz"))
