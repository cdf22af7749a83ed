"""What is known of a data set before it is read: classes, image size, augmentation, where it lies. Nothing here needs torch."""

from __future__ import annotations

import json
import os
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from midas.config.settings import Strict, UserDataset, expanded
from midas.files.texts import read_text
from midas.images.npz import Npz

DOWNLOADS = Path("data")
"""Where data sets are downloaded to when the user names no folder."""

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Dataset(Strict):
    """A data set, resolved.

    Attributes:
        name: as in configuration and paths.
        kind: how it is read.
        path: file, folder or torchvision root; None for embedded images.
        download: whether torchvision may download it to `path`.
        classes: number of classes.
        image: height and width in pixels.
        flip: whether augmentation mirrors images.
        padding: largest shift of a random crop in pixels.
        split: file with the index lists of the search split, None for fixed random halves.
    """

    name: str
    kind: Literal["digits", "digit_pairs", "digit_photos", "cifar10", "cifar100", "svhn", "imagenet", "npz", "folder"]
    path: str | None = None
    download: bool = False
    classes: int
    image: tuple[int, int]
    flip: bool
    padding: int
    split: str | None = None


KNOWN = {
    # a mirrored or far shifted digit is another digit, or none
    "digits": Dataset(name="digits", kind="digits", classes=10, image=(16, 16), flip=False, padding=2),
    "digit_pairs": Dataset(name="digit_pairs", kind="digit_pairs", classes=100, image=(16, 32), flip=False, padding=2),
    "cifar10": Dataset(name="cifar10", kind="cifar10", classes=10, image=(32, 32), flip=True, padding=4),
    "cifar100": Dataset(name="cifar100", kind="cifar100", classes=100, image=(32, 32), flip=True, padding=4),
    "svhn": Dataset(name="svhn", kind="svhn", classes=10, image=(32, 32), flip=False, padding=4),
    # folders of images for transfer: read as they are needed, resized as the transfer says
    "digit_photos": Dataset(
        name="digit_photos", kind="digit_photos", classes=10, image=(64, 64), flip=False, padding=0
    ),
    "imagenet": Dataset(name="imagenet", kind="imagenet", classes=1000, image=(224, 224), flip=True, padding=0),
}

IMAGE_FOLDERS = ("digit_photos", "imagenet", "folder")
"""Kinds that a transfer can train on."""

TESTED_ON = {"folder": ("test", "val"), "imagenet": ("val",), "digit_photos": ("val",)}
"""Folders that test images may lie in, the first one there is taken. The classes of ImageNet's own test images aren't public."""

IMAGES = {
    "digits": (1_437, 360),
    "digit_pairs": (1_000, 400),
    "digit_photos": (1_437, 360),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "svhn": (73_257, 26_032),
    "imagenet": (1_281_167, 50_000),
}
"""Training and test images of the known data sets."""

FILES = {
    "cifar10": ("cifar-10-batches-py/data_batch_1",),
    "cifar100": ("cifar-100-python/train",),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "imagenet": ("imagenet/train", "imagenet/val"),
}
"""What a data folder must hold; all but ImageNet can be downloaded by torchvision."""


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def class_names(dataset: Dataset) -> list[str]:
    """Names of the classes where they are known, else their numbers."""
    if dataset.kind == "cifar10":
        return list(CIFAR10_CLASSES)
    if dataset.kind == "folder":
        assert dataset.path is not None
        return list(folder_files(folder_parts(Path(dataset.path))[0]))
    digits = 2 if dataset.kind == "digit_pairs" else 1
    return [f"{label:0{digits}d}" for label in range(dataset.classes)]


def resolve(name: str, own: dict[str, UserDataset], data_root: str | None, cifar10_split: str | None) -> Dataset:
    """A data set by its name in the configuration.

    Raises:
        ValueError: unknown name, missing file or folder, or a damaged file; the message names it.
    """
    if name in own:
        return _own(name, own[name])
    if name not in KNOWN:
        raise ValueError(f"data set {name!r} does not exist; allowed: {', '.join([*KNOWN, *own])}")
    known = KNOWN[name]
    if known.kind not in FILES:
        return known
    root = data_root or _environments()
    if root is not None:
        for file in FILES[known.kind]:
            if not (Path(root) / file).exists():
                raise ValueError(f"data folder {root!r} has no {file}, which {name} needs")
    if name == "imagenet":
        path = Path(root or DOWNLOADS) / "imagenet"
        if all((path / part).is_dir() for part in ("train", "val")):
            _check_class_folders(path)
        return known.model_copy(update={"path": str(path)})
    split = cifar10_split if name == "cifar10" else None
    return known.model_copy(update={"path": root or str(DOWNLOADS), "download": root is None, "split": split})


def _environments() -> str | None:
    """The data folder that the environment names, if it does."""
    folder = os.environ.get("MIDAS_DATA", "")
    try:
        return expanded(folder) or None
    except ValueError as error:
        raise ValueError(f"MIDAS_DATA: {folder!r} is not allowed; {error}") from error


def _own(name: str, own: UserDataset) -> Dataset:
    path = Path(own.path)
    if not path.exists():
        raise ValueError(f"data set {name!r}: {own.path} does not exist")
    classes, image = _npz_facts(path) if own.kind == "npz" else _folder_facts(path, own.image_size)
    return Dataset(
        name=name, kind=own.kind, path=own.path, classes=classes, image=image, flip=own.flip, padding=own.padding
    )


def read_split(path: Path) -> dict[str, list[int]]:
    """The index lists "train" and "valid" of a search split: JSON, may be compressed (see `midas.files.texts`).

    A list may be written as the authors of NAS-Bench-201 write it, the name of a type before its numbers: ["int", ["0", "5"]].

    Raises:
        ValueError: the file can't be read, lacks a list, or the lists don't hold different images, each once.
    """
    try:
        lists = json.loads(read_text(path))
        found = {name: _indices(name, lists[name]) for name in ("train", "valid")}
        both = sorted(found["train"] + found["valid"])
        if both[0] < 0:
            raise ValueError(f"image {both[0]} does not exist; they count from 0")
        if (again := next((a for a, b in pairwise(both) if a == b), None)) is not None:
            raise ValueError(f"image {again} is there twice; train and valid must be different images, each once")
        return found
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"list {error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: not a JSON file with the index lists train and valid: {reason}") from error


def _indices(name: str, values: Any) -> list[int]:
    match values:
        case ["int", [*texts]] if all(isinstance(text, str) and text.isdecimal() for text in texts):
            values = [int(text) for text in texts]
    if not (isinstance(values, list) and values and all(type(index) is int for index in values)):
        raise ValueError(f"{name} must hold indices of images")
    return values


def _npz_facts(path: Path) -> tuple[int, tuple[int, int]]:
    npz = Npz(path)
    _, height, width, _ = npz.shapes["train"]
    return int(max(labels.max() for labels in npz.labels.values())) + 1, (height, width)


@cache
def images_of(dataset: Dataset) -> tuple[int, int]:
    """Training and test images of a data set; a user's own are counted, once a process.

    Raises:
        ValueError: the user's file or folder can't be read.
    """
    if dataset.kind == "npz":
        labels = Npz(Path(str(dataset.path))).labels
        return len(labels["train"]), len(labels["test"])
    if dataset.kind == "folder":
        train, test = (folder_files(part).values() for part in folder_parts(Path(str(dataset.path))))
        return sum(map(len, train)), sum(map(len, test))
    return IMAGES[dataset.kind]


def bytes_in_memory(dataset: Dataset) -> int:
    """What the images of a user's data set take in memory; 0 of others, which are small.

    Raises:
        ValueError: the files can't be read.
    """
    height, width = dataset.image
    if dataset.path is None or dataset.kind not in ("npz", "folder"):
        return 0
    return 3 * height * width * sum(images_of(dataset))


def folder_parts(path: Path, kind: str = "folder") -> tuple[Path, Path]:
    """Folders of the training and the test images.

    Args:
        path: the folder of both.
        kind: of the data set, one of `IMAGE_FOLDERS`.

    Raises:
        ValueError: one of them is missing.
    """
    train, test = path / "train", next((path / n for n in TESTED_ON[kind] if (path / n).is_dir()), None)
    if not train.is_dir() or test is None:
        first, *others = TESTED_ON[kind]
        raise ValueError(f"{path}: an image folder needs train/ and {first}/" + "".join(f" (or {n}/)" for n in others))
    return train, test


def part_tested(dataset: Dataset) -> dict[str, str]:
    """What `metrics.json` says of the folder of the test images; nothing for a data set that is none of folders.

    Raises:
        ValueError: the folder is missing.
    """
    if dataset.kind not in IMAGE_FOLDERS or dataset.path is None:
        return {}
    return {"test_part": folder_parts(Path(dataset.path), dataset.kind)[1].name}


class Listing(NamedTuple):
    """What lies in a folder of training or test images.

    Attributes:
        files: class name -> image files, both in alphabetical order. A class may have none.
        left_out: why something is not read -> what that is. Hidden files are left out, since other systems leave some of them
            beside images, under their names and with other contents.
    """

    files: dict[str, list[Path]]
    left_out: dict[str, list[Path]]


def list_part(part: Path) -> Listing:
    """What is read of a folder of training or test images. All that reads such a folder asks here. Links are followed.

    Raises:
        ValueError: a folder can't be read, or a class's name is no text.
    """
    found = Listing({}, {})

    def leave_out(why: str, entry: os.DirEntry[str]) -> None:
        found.left_out.setdefault(why, []).append(Path(entry.path))

    for folder in _entries(part):
        if folder.name.startswith("."):
            leave_out("hidden", folder)
        elif not _is_folder(folder):
            leave_out("beside_classes", folder)
        else:
            files = found.files[_class_name(folder)] = []
            for file in _entries(Path(folder.path)):
                if file.name.startswith("."):
                    leave_out("hidden", file)
                elif _is_folder(file):
                    leave_out("folder_in_class", file)
                elif Path(file.name).suffix.lower() not in IMAGE_SUFFIXES:
                    leave_out("other_suffix", file)
                else:  # a link to nothing too: who opens it names it
                    files.append(Path(file.path))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; each knows whether it is a folder, without a look at the disk for a million files."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: can't be read: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _class_name(folder: os.DirEntry[str]) -> str:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:  # tables couldn't be written
        raise ValueError(f"{folder.path!r}: the name of a class must be UTF-8; rename the folder") from error
    return folder.name


def folder_files(part: Path) -> dict[str, list[Path]]:
    """Class name -> image files, both in alphabetical order.

    Raises:
        ValueError: a folder can't be read, or a class's name is no text.
    """
    return list_part(part).files


def image_files(dataset: Dataset) -> list[Path]:
    """All images of a data set of folders, training images first.

    Raises:
        ValueError: a folder is missing.
    """
    parts = folder_parts(Path(str(dataset.path)), dataset.kind)
    return [file for part in parts for files in folder_files(part).values() for file in files]


def _check_class_folders(path: Path) -> None:
    """ImageNet's folders of classes must be the same; its files are not looked at, which takes long."""
    train, val = ({e.name for e in _entries(path / n) if _is_folder(e) and e.name[0] != "."} for n in ("train", "val"))
    if train and not val:
        raise ValueError(
            f"{path / 'val'}: has no folder for each class, as train/ has; sort the images into such folders"
        )
    if different := sorted(train ^ val):
        raise ValueError(f"{path}: train and val have other classes: {few(different)}")


def few(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _folder_facts(path: Path, image_size: int | None) -> tuple[int, tuple[int, int]]:
    if image_size is None:
        raise ValueError(f"{path}: an image folder needs the key image_size")
    train, test = (folder_files(part) for part in folder_parts(path))
    if not train or any(not files for files in train.values()):
        empty = few([name for name, files in train.items() if not files])
        raise ValueError(f"{path / 'train'}: needs a folder with images for each class; empty: {empty or 'all of it'}")
    if not any(test.values()):
        raise ValueError(f"{folder_parts(path)[1]}: holds no images in folders of their classes")
    if list(train) != list(test):
        raise ValueError(
            f"{path}: the classes of the training and the test images differ: {few(sorted(set(train) ^ set(test)))}"
        )
    return len(train), (image_size, image_size)
