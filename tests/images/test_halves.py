"""The halves of a search: disjoint, of all classes, or those of a split file."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zipfile

import pytest
import torch
from image_data import same

from midas.images.datasets import KNOWN
from midas.images.halves import read_split, search_halves


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
