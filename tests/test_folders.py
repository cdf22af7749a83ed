import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import ImageDataset

from midas.config.settings import Transfer, UserDataset
from midas.data import prepare
from midas.images import digits, folders
from midas.images import reading as data
from midas.images.datasets import KNOWN, Dataset, part_tested, resolve
from midas.images.folders import describe, write_photos
from midas.images.listing import folder_files
from midas.plan.runs import DataRun
from midas.running.processes import Group
from midas.training.photos import PhotoLoader, Photos

GRAY = (np.arange(6 * 64).reshape(6, 8, 8) % 256).astype(np.uint8)
PARTS = ((GRAY[:4], np.array([0, 1, 1, 0])), (GRAY[4:], np.array([0, 1])))


def folder_dataset(path, classes=2, kind="folder"):
    return Dataset(name="mine", kind=kind, path=str(path), classes=classes, image=(32, 32), flip=True, padding=0)


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "images", *PARTS)
    return tmp_path / "images"


# --- the embedded images


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


# --- counting and checking


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


def test_photos_are_stored_without_chroma_subsampling():
    with Image.open(io.BytesIO(folders._jpeg(GRAY[0]))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


# --- what is read of a folder


def both(path, name, content=None):
    """The same file or folder in both parts."""
    for part in ("train", "val"):
        target = path / part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if content is None else target.write_bytes(content)


def resource_fork(path):
    return b"\x00\x05\x16\x07Mac OS X"


def an_image(path):
    return (path / "train/0/0000.jpg").read_bytes()


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


# --- which part is tested on


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
