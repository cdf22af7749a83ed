"""What is known of a data set before it is read: classes, image size, augmentation, where it lies. Nothing here needs torch."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from midas.settings import Strict, UserDataset, expanded
from midas.texts import read_text

DOWNLOADS = Path("data")
"""Where data sets are downloaded to when the user names no folder."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
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
        return known.model_copy(update={"path": str(Path(root or DOWNLOADS) / "imagenet")})
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
    """The index lists "train" and "valid" of a search split: JSON, may be compressed (see `midas.texts`).

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


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The four arrays of an npz data set.

    Raises:
        ValueError: the file is damaged, lacks an array, or an array has another shape or type than documented.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file]
            if missing:
                raise ValueError(f"lacks {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
            arrays = {name: file[name] for name in ARRAYS}
        for part in ("train", "test"):
            x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
            if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
                raise ValueError(f"x_{part} is {x.dtype} {list(x.shape)}; it must be uint8 [n, height, width, 3]")
            if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer) or len(y) == 0 or y.min() < 0:
                raise ValueError(f"y_{part} must hold a class number (0, 1, ...) for each image of x_{part}")
        if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
            raise ValueError("the images of x_train and x_test differ in size")
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a usable npz data set: {error}") from error
    return arrays


def _npz_facts(path: Path) -> tuple[int, tuple[int, int]]:
    arrays = read_npz(path)
    height, width = arrays["x_train"].shape[1:3]
    return int(max(arrays["y_train"].max(), arrays["y_test"].max())) + 1, (height, width)


def folder_parts(path: Path) -> tuple[Path, Path]:
    """Folders of the training and the test images.

    Raises:
        ValueError: one of them is missing.
    """
    train, test = path / "train", next((path / n for n in ("test", "val") if (path / n).is_dir()), None)
    if not train.is_dir() or test is None:
        raise ValueError(f"{path}: an image folder needs train/ and test/ (or val/)")
    return train, test


def folder_files(path: Path) -> dict[str, list[Path]]:
    """Class name -> image files, both in alphabetical order."""
    return {
        folder.name: sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        for folder in sorted(path.iterdir())
        if folder.is_dir()
    }


def _folder_facts(path: Path, image_size: int | None) -> tuple[int, tuple[int, int]]:
    if image_size is None:
        raise ValueError(f"{path}: an image folder needs the key image_size")
    train, test = (folder_files(part) for part in folder_parts(path))
    if not train or any(not files for files in train.values()):
        raise ValueError(
            f"{path}/train: needs a folder with images for each class; empty: {[k for k in train if not train[k]]}"
        )
    if not any(test.values()):
        raise ValueError(f"{folder_parts(path)[1]}: holds no images")
    if list(train) != list(test):
        raise ValueError(
            f"{path}: the classes of the training and the test images differ: {sorted(set(train) ^ set(test))}"
        )
    return len(train), (image_size, image_size)
