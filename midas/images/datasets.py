"""What is known of a data set before it is read: classes, image size, augmentation, where it lies. Nothing here needs torch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

from midas.config.kinds import Strict, expanded
from midas.config.settings import UserDataset
from midas.files.naming import among
from midas.images.listing import check_class_folders, few, folder_files, folder_parts
from midas.images.npz import Npz

DOWNLOADS = Path("data")
"""Where data sets are downloaded to when the user names no folder."""


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
        raise ValueError(f"data set {name!r} does not exist{among(name, [*KNOWN, *own])}")
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
            check_class_folders(path)
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


def _npz_facts(path: Path) -> tuple[int, tuple[int, int]]:
    npz = Npz(path)
    _, height, width, _ = npz.shapes["train"]
    return int(max(labels.max() for labels in npz.labels.values())) + 1, (height, width)


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


def part_tested(dataset: Dataset) -> dict[str, str]:
    """What `metrics.json` says of the folder of the test images; nothing for a data set that is none of folders.

    Raises:
        ValueError: the folder is missing.
    """
    if dataset.kind not in IMAGE_FOLDERS or dataset.path is None:
        return {}
    return {"test_part": folder_parts(Path(dataset.path), dataset.kind)[1].name}


def image_files(dataset: Dataset) -> list[Path]:
    """All images of a data set of folders, training images first.

    Raises:
        ValueError: a folder is missing.
    """
    parts = folder_parts(Path(str(dataset.path)), dataset.kind)
    return [file for part in parts for files in folder_files(part).values() for file in files]
