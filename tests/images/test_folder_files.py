"""Which files of a folder are read, in which order, and that a damaged one is named."""

import json
import os
from pathlib import Path

import pytest
import torch
from image_data import an_image, folder_dataset
from PIL import Image
from timm.data import ImageDataset

from midas.config.settings import UserDataset
from midas.data import prepare
from midas.images import reading as data
from midas.images.datasets import resolve
from midas.images.folders import describe
from midas.images.listing import folder_files
from midas.plan.runs import DataRun
from midas.training.photos import Photos


def both(path, name, content=None):
    """The same file or folder in both parts."""
    for part in ("train", "val"):
        target = path / part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if content is None else target.write_bytes(content)


def resource_fork(path):
    return b"\x00\x05\x16\x07Mac OS X"


LEFT_OUT = {
    "hidden": [
        (".thumbnails/0.jpg", an_image),
        ("0/._0000.jpg", resource_fork),
        ("0/.ipynb_checkpoints/a.jpg", an_image),
    ],
    "beside_classes": [("0000.jpg", an_image), ("list.txt", resource_fork)],
    "folder_in_class": [("0/1/0000.jpg", an_image), ("0/other.jpg/x.jpg", an_image), ("1/empty", None)],
    "other_suffix": [("0/0000.tif", an_image), ("1/notes", resource_fork)],
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_one_reader_decides_for_counting_memory_and_transfer(why, photos, tmp_path, capsys):
    before = describe(folder_dataset(photos))
    expected = {part: folder_files(photos / part) for part in ("train", "val")}
    for name, content in LEFT_OUT[why]:
        both(photos, name, content and content(photos))
    assert describe(folder_dataset(photos)) == before
    loaded = data.load(folder_dataset(photos), torch.device("cpu"))
    assert [len(part) for part in loaded] == [before["train_images"], before["test_images"]]
    for part, files in expected.items():
        assert folder_files(photos / part) == files
        seen = Photos(photos / part, 0)
        assert (seen.classes, sorted(seen.files)) == (
            list(files),
            [(str(file), number) for number, name in enumerate(files) for file in files[name]],
        )
    for in_memory in (True, False):
        prepare(DataRun(dataset=folder_dataset(photos), in_memory=in_memory), tmp_path / "data")
        counts = dict.fromkeys(LEFT_OUT, 0) | {why: 2 * len({name.rsplit("/x", 1)[0] for name, _ in LEFT_OUT[why]})}
        assert json.loads((tmp_path / "data/metrics.json").read_text())["left_out"] == counts
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("data: not read")]
        assert len(said) == 1
        assert f": {counts[why]}, the first is {photos}/train/" in said[0]


def test_nothing_is_said_where_nothing_is_left_out(photos, tmp_path, capsys):
    prepare(DataRun(dataset=folder_dataset(photos), in_memory=False), tmp_path / "data")
    assert "not read" not in capsys.readouterr().err
    assert not any(json.loads((tmp_path / "data/metrics.json").read_text())["left_out"].values())


def test_links_are_followed_and_suffixes_are_of_any_case(photos, tmp_path):
    photos.rename(tmp_path / "elsewhere")
    for part in ("train", "val"):
        (photos / part).mkdir(parents=True)
        (photos / part / "0").symlink_to(tmp_path / "elsewhere" / part / "0")
        (photos / part / "1").mkdir()
        for file in (tmp_path / "elsewhere" / part / "1").iterdir():
            (photos / part / "1" / f"{file.stem}.JPG").symlink_to(file)
    assert describe(folder_dataset(photos))["train_images"] == 4
    assert [len(part) for part in data.load(folder_dataset(photos), torch.device("cpu"))] == [4, 2]
    assert len(Photos(photos / "train", 0)) == 4


def test_a_link_to_nothing_is_named_and_not_left_out(photos, tmp_path):
    (photos / "train/1/0009.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"train/1/0009\.jpg: not a readable image: No such file"):
        data.load(folder_dataset(photos), torch.device("cpu"))
    with pytest.raises(OSError, match=r"train/1/0009\.jpg"):
        describe(folder_dataset(photos))


def test_a_link_to_itself_is_none_of_a_folder_and_named_as_a_file(photos):
    for name in ("loop", "0/loop.jpg"):
        (photos / "train" / name).symlink_to(photos / "train" / name)
    assert list(folder_files(photos / "train")) == ["0", "1"]
    with pytest.raises(ValueError, match=r"train/0/loop\.jpg: not a readable image: Too many levels of symbolic links"):
        data.load(folder_dataset(photos), torch.device("cpu"))


def test_a_folder_that_can_not_be_read_is_named_before_any_work(photos, monkeypatch):
    whole = os.scandir

    def scandir(path):
        if Path(path).name == "1":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr("midas.images.listing.os.scandir", scandir)
    with pytest.raises(ValueError, match=rf"^{photos}/train/1: can't be read: Permission denied$"):
        resolve("mine", {"mine": UserDataset(kind="folder", path=str(photos), image_size=32)}, None, None)


def test_a_transfer_sees_files_in_the_order_that_timm_gives_them(tmp_path):
    for name in ("b", "10", "9", "B2"):
        for file in ("10.jpg", "9.jpg", "a1b20.JPG", "A1b3.png", "x.jpeg", "007.bmp", "7.webp"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_bytes(b"")
    photos = Photos(tmp_path, 0)
    numbers = {name: number for number, name in enumerate(photos.classes)}
    timm = ImageDataset(str(tmp_path), class_map=numbers, input_key=".jpg;.jpeg;.png;.webp;.bmp")
    same = {"007.bmp", "7.webp"}  # of equal names timm takes that first which the disk happens to name first
    assert [pair for pair in photos.files if Path(pair[0]).name not in same] == [
        pair for pair in timm.reader.samples if Path(pair[0]).name not in same
    ]
    assert sorted(photos.files) == sorted(timm.reader.samples)
    assert photos.files == Photos(tmp_path, 0).files


def test_a_digit_that_is_none_by_its_value_stands_in_a_name(tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("1\N{SUPERSCRIPT TWO}2.jpg", "1.jpg"):
        (tmp_path / "m" / name).write_bytes(b"")
    assert len(Photos(tmp_path, 0)) == 2


def test_a_name_that_is_not_utf_8_is_counted_as_a_file_and_refused_as_a_class(photos):
    file = photos / "train/0" / os.fsdecode(b"caf\xe9.jpg")
    file.write_bytes(an_image(photos))
    assert describe(folder_dataset(photos))["train_images"] == 5
    for part in ("train", "val"):
        (photos / part / "1").rename(photos / part / os.fsdecode(b"caf\xe9"))
    with pytest.raises(ValueError, match=r"train/caf\\udce9': the name of a class must be UTF-8; rename the folder"):
        describe(folder_dataset(photos))


# --- all that will be read is opened once


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("file", ["train/1/0002.jpg", "val/0/0000.jpg"])
def test_a_damaged_image_is_named_by_the_step(file, in_memory, photos, tmp_path):
    content = (photos / file).read_bytes()
    (photos / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"^{photos / file}: not a readable image: "):
        prepare(DataRun(dataset=folder_dataset(photos), in_memory=in_memory), tmp_path / "data")
    assert not (tmp_path / "data/metrics.json").exists()


def test_a_folder_in_memory_is_known_by_its_files_too(photos, tmp_path):
    """A transfer to it reads more of an image than what is searched on."""
    run = DataRun(dataset=folder_dataset(photos))
    image = next((photos / "train").rglob("*.jpg"))

    def numbers():
        prepare(run, tmp_path / "data")
        return json.loads((tmp_path / "data/metrics.json").read_text())

    first = numbers()
    with image.open("ab") as file:
        file.write(b"more")  # behind the image: the same pixels
    again = numbers()
    assert first["sha256"] == again["sha256"]
    assert first["files_sha256"] != again["files_sha256"]


def test_images_are_not_opened_where_the_configuration_says_so(photos, tmp_path, monkeypatch):
    run = DataRun(dataset=folder_dataset(photos), in_memory=False)
    prepare(run, tmp_path / "opened")
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    prepare(run.model_copy(update={"opened": False}), tmp_path / "counted")
    first, second = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("opened", "counted"))
    for numbers in (first, second):
        del numbers["config"], numbers["cost"]
    assert first.pop("sha256") != second.pop("sha256")  # of what the files hold, and of their names and sizes
    assert first == second
