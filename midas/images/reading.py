"""What images a data set holds, read whole: embedded, of one file, of a folder, or downloaded by torchvision."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from midas.images.datasets import Dataset
from midas.images.digits import Arrays, digit_pairs, digits
from midas.images.listing import folder_files, folder_parts
from midas.images.npz import Npz
from midas.images.opening import read_rgb
from midas.running.limits import leave_if_asked, pause

AT_ONCE = 1024
"""Images that are worked on at once where all of them may be too many."""
RETRY_AFTER = (5, 30, 120)
"""Seconds to wait before a lost download is tried again."""


class Images(NamedTuple):
    """Images and their classes on one device.

    Attributes:
        pixels: uint8 [n, 3, height, width].
        labels: int64 [n].
    """

    pixels: Tensor
    labels: Tensor

    def take(self, index: Tensor) -> Images:
        """The images of some indices."""
        index = index.to(self.labels.device)
        return Images(self.pixels[index], self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def load(dataset: Dataset, device: torch.device) -> tuple[Images, Images]:
    """Training and test images of a data set.

    Raises:
        ValueError: files are missing or damaged, or images are not what the data set's description says.
    """
    readers = {"digits": digits, "digit_pairs": digit_pairs, "npz": _npz, "folder": _folder}
    arrays = readers.get(dataset.kind, _torchvision)(dataset)
    parts = []
    for pixels, labels in arrays:
        images = Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels.astype(np.int64)))
        if (
            tuple(images.pixels.shape[1:]) != (3, *dataset.image)
            or not 0 <= labels.min() <= labels.max() < dataset.classes
        ):
            raise ValueError(
                f"{dataset.path}: {list(images.pixels.shape[1:])} images with classes {labels.min()}..{labels.max()}; "
                f"{dataset.name} has [3, {dataset.image[0]}, {dataset.image[1]}] and 0..{dataset.classes - 1}"
            )
        parts.append(Images(images.pixels.to(device), images.labels.to(device)))
    return parts[0], parts[1]


def _npz(dataset: Dataset) -> Arrays:
    assert dataset.path is not None
    npz = Npz(Path(dataset.path))
    train, test = ((_channels_first(npz.images(part)), npz.labels[part]) for part in ("train", "test"))
    return train, test


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 3] as [n, 3, h, w] in the same memory, since there may be no room for all of them twice."""
    images = np.ascontiguousarray(images)
    n, height, width, channels = images.shape
    turned = images.reshape(n, channels, height, width)
    for first in range(0, n, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        turned[some] = images[some].transpose(0, 3, 1, 2).copy()
    return turned


def _folder(dataset: Dataset) -> Arrays:
    def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        labelled = [(file, label) for label, files in enumerate(folder_files(folder).values()) for file in files]
        pixels = np.empty((len(labelled), 3, *dataset.image), np.uint8)
        for place, (file, _) in zip(pixels, labelled, strict=True):
            leave_if_asked("data")
            place[:] = _square(read_rgb(file), dataset.image[0]).transpose(2, 0, 1)
        return pixels, np.array([label for _, label in labelled])

    assert dataset.path is not None
    train, test = (read(part) for part in folder_parts(Path(dataset.path)))
    return train, test


def _square(image: Image.Image, side: int) -> np.ndarray:
    """The centre of an image, its shorter side resized to `side`: [side, side, 3] uint8."""
    return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


def _torchvision(dataset: Dataset) -> Arrays:
    from torchvision import datasets

    assert dataset.path is not None
    root, download = Path(dataset.path), dataset.download
    try:
        if dataset.kind == "svhn":
            archives = [root / file for _, file, _ in datasets.SVHN.split_list.values()]
            parts = [
                _fetched(partial(datasets.SVHN, root, split, download=download), archives, download)
                for split in ("train", "test")
            ]
            return (parts[0].data, parts[0].labels), (parts[1].data, parts[1].labels)
        kind = datasets.CIFAR10 if dataset.kind == "cifar10" else datasets.CIFAR100
        sets = [
            _fetched(partial(kind, root, train, download=download), [root / kind.filename], download)
            for train in (True, False)
        ]
    except (OSError, RuntimeError) as error:  # torchvision: a failed download, a missing file or a wrong sum
        raise ValueError(f"{dataset.path}: {dataset.name} can't be read: {error}") from error
    train, test = ((s.data.transpose(0, 3, 1, 2), np.array(s.targets)) for s in sets)
    return train, test


def _fetched(make: Callable[[], Any], archives: list[Path], download: bool) -> Any:
    """What `make` makes, tried again if a download is lost; an archive that came in part or has a wrong sum is removed."""
    for wait in (*RETRY_AFTER, None):
        try:
            return make()
        except (OSError, RuntimeError, EOFError) as error:
            if not download:
                raise
            for archive in archives:
                archive.unlink(missing_ok=True)
            if wait is None:
                raise
            print(f"download: {error}; tried again in {wait} s", file=sys.stderr, flush=True)
            pause(wait, "download")
    raise AssertionError


def digest_of(*parts: Images) -> str:
    """Digest of pixels and labels, whatever file they came from."""
    whole = hashlib.sha256()
    for part in parts:
        for tensor in part:
            whole.update(tensor.cpu().numpy().data)
    return whole.hexdigest()
