"""Data on the device: the whole set as one uint8 tensor, augmentation as batched tensor operations.

Every random draw is a function of (seed, stream, epoch, step), so that a resumed run sees what an uninterrupted one sees,
on whatever device. As a step, ``python -m midas.data RUN FOLDER`` makes a data set ready and writes what is known of it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from midas.images.contents import of_images
from midas.images.datasets import Dataset, folder_files, folder_parts, image_files, part_tested, read_split
from midas.images.digits import Arrays, digit_halves, digit_pairs, digits
from midas.images.folders import describe, left_out, write_photos
from midas.images.npz import Npz
from midas.images.opening import open_all, read_rgb
from midas.plan.runs import DataRun
from midas.running.limits import leave_if_asked, pause
from midas.running.provenance import write_metrics

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


def search_halves(dataset: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """Indices of the training images that the weights and the architecture are searched on.

    The same for all seeds. NAS-Bench-201 has index lists of its own for CIFAR-10 (key cifar10_split); elsewhere the halves
    are random, since a user's images may be sorted.

    Args:
        dataset: names the file with the lists, if there is one.
        count: number of training images.

    Raises:
        ValueError: the file can't be used, or names an image that doesn't exist.
    """
    if dataset.split is None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        train, valid = order[: count // 2], order[count // 2 :]
    else:
        lists = read_split(Path(dataset.split))
        train, valid = torch.tensor(lists["train"]), torch.tensor(lists["valid"])
        if (last := int(torch.cat([train, valid]).max())) >= count:
            raise ValueError(f"{dataset.split}: image {last} does not exist; {dataset.name} has 0 to {count - 1}")
    return train.sort().values, valid.sort().values


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, [1, 3, 1, 1], in units of a pixel's 0..255."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: Images) -> Statistics:
        """The statistics of a set of images, exact and without a float copy of it."""
        values = torch.arange(256, dtype=torch.float64, device=images.pixels.device)
        counts = torch.zeros(3, 256, dtype=torch.int64, device=values.device)
        for some in images.pixels.split(AT_ONCE):
            counts += torch.stack([torch.bincount(c.flatten().int(), minlength=256) for c in some.unbind(1)])
        share = counts.double() / counts.sum(1, keepdim=True)
        mean = share @ values
        std = (share @ values.square() - mean.square()).sqrt()
        return cls(mean.float().view(1, 3, 1, 1), std.float().clamp(min=1.0).view(1, 3, 1, 1))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, h, w] uint8 to float32 with mean 0 and standard deviation 1 over the set."""
        return (pixels.float() - self.mean) / self.std


def in_order(images: Images, statistics: Statistics, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once, unchanged but normalised, in batches as equal in size as can be."""
    batches = -(-len(images) // batch_size)
    for pixels, labels in zip(images.pixels.tensor_split(batches), images.labels.tensor_split(batches), strict=True):
        yield statistics.normalise(pixels), labels


class Draws(NamedTuple):
    """What is drawn for an epoch (its first axis are the steps) or for one of its steps; None for what isn't drawn.

    Attributes:
        order: indices of the images int64 [B].
        shift: rows and columns of the crop int64 [2, B].
        flip: whether the image is mirrored, bool [B].
        blank: row and column of cutout's centre int64 [2, B].
    """

    order: Tensor
    shift: Tensor | None
    flip: Tensor | None
    blank: Tensor | None

    def at(self, step: int | Tensor) -> Draws:
        """Those of a step of the epoch; its number may be a tensor [1] on the device, which then isn't waited for."""

        def of(x: Tensor) -> Tensor:
            return x[step] if isinstance(step, int) else x.index_select(0, step)[0]

        order, *others = self
        return Draws(of(order), *(None if x is None else of(x) for x in others))


class Loader:
    """Augmented batches, shuffled anew each epoch; the last, smaller batch of an epoch is left out.

    Args:
        images: on the device that batches are wanted on.
        stream: name of this use ("train", "valid"), so that two loaders of one run draw differently.
        dataset: says how its images are augmented.
        cutout: side of the square that is blanked, 0 for none (DeVries and Taylor, 2017).

    Raises:
        ValueError: there are fewer images than a batch holds.
    """

    def __init__(
        self,
        images: Images,
        statistics: Statistics,
        batch_size: int,
        seed: int,
        stream: str,
        dataset: Dataset,
        cutout: int = 0,
    ):
        if len(images) < batch_size:
            raise ValueError(
                f"batch_size: {batch_size} is not allowed; {dataset.name} has {len(images)} images for {stream}"
            )
        self.images, self.statistics, self.batch_size = images, statistics, batch_size
        self.seed, self.stream, self.dataset, self.cutout = seed, stream, dataset, cutout

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch, less the `first` ones: images float32 [B, 3, h, w] and labels int64 [B]."""
        drawn = self.draw(epoch)
        for step in range(first, len(self)):
            yield self.batch(drawn.at(step))

    def draw(self, epoch: int) -> Draws:
        """All that an epoch draws, on the images' device; its first axis are the steps."""
        steps = range(1, len(self) + 1)
        order = torch.randperm(len(self.images), generator=generator(self.seed, self.stream, epoch, 0))
        order = order[: len(self) * self.batch_size].view(len(self), -1)
        augmented = [self._draw(generator(self.seed, self.stream, epoch, step)) for step in steps]
        whole = [None if xs[0] is None else torch.stack(xs) for xs in zip(*augmented, strict=True)]
        device = self.images.labels.device
        return Draws(order.to(device), *(None if x is None else x.to(device) for x in whole))

    def _draw(self, draw: torch.Generator) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Shift, flip and blank of one batch, in this order."""
        batch, padding = self.batch_size, self.dataset.padding
        shift = torch.randint(2 * padding + 1, (2, batch), generator=draw) if padding else None
        flip = torch.rand(batch, generator=draw) < 0.5 if self.dataset.flip else None
        sides = self.images.pixels.shape[2:] if self.cutout else ()
        blank = [torch.randint(side, (batch,), generator=draw) for side in sides]
        return shift, flip, torch.stack(blank) if blank else None

    def batch(self, drawn: Draws) -> tuple[Tensor, Tensor]:
        """The batch that was drawn for one step."""
        pixels = self.images.pixels[drawn.order]
        if drawn.shift is not None:
            pixels = random_crop(pixels, self.dataset.padding, drawn.shift)
        if drawn.flip is not None:
            pixels = torch.where(drawn.flip.view(-1, 1, 1, 1), pixels.flip(3), pixels)
        x = self.statistics.normalise(pixels)
        x = x if drawn.blank is None else cutout(x, self.cutout, drawn.blank)
        return x, self.images.labels[drawn.order]


def random_crop(x: Tensor, padding: int, shift: Tensor) -> Tensor:
    """Shift each image [B, C, H, W] down and right by `shift` [2, B] - `padding` pixels, black coming in as in torchvision."""
    batch, _, height, width = x.shape
    rows = (shift[0, :, None] + torch.arange(height, device=x.device))[:, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=x.device))[:, None, :]
    images = torch.arange(batch, device=x.device)[:, None, None]
    padded = F.pad(x, (padding,) * 4)
    return padded.permute(0, 2, 3, 1)[images, rows, columns].permute(0, 3, 1, 2)


def cutout(x: Tensor, side: int, centres: Tensor) -> Tensor:
    """Blank a square around a pixel of each image [B, C, H, W]: row and column [2, B]; it may reach over the border."""

    def blank(length: int, centre: Tensor) -> Tensor:
        place = torch.arange(length, device=x.device)
        return (place >= centre[:, None] - side // 2) & (place < centre[:, None] + side - side // 2)

    rows, columns = (blank(length, centre) for length, centre in zip(x.shape[2:], centres, strict=True))
    return x.masked_fill((rows[:, None, :, None] & columns[:, None, None, :]), 0.0)


def generator(seed: int, stream: str, epoch: int, step: int) -> torch.Generator:
    """A CPU generator whose draws are a function of its arguments."""
    return torch.Generator().manual_seed(_number(seed, stream, epoch, step))


def seed_step(seed: int, stream: str, epoch: int, step: int) -> None:
    """Seed torch's global generators, which drop-path and parameter initialisation draw from."""
    torch.manual_seed(_number(seed, stream, epoch, step))


def _number(seed: int, stream: str, epoch: int, step: int) -> int:
    name = f"{seed} {stream} {epoch} {step}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:7], "big")


def prepare(run: DataRun, folder: Path) -> None:
    """Download, write and check a data set where needed, and write `metrics.json`: numbers, and a digest of the images.

    Raises:
        ValueError: files are missing or damaged, or not what the data set's description says.
    """
    start = time.monotonic()
    numbers = _of_arrays(run.dataset) if run.in_memory else _of_folder(run.dataset, run.opened)
    numbers |= part_tested(run.dataset) | left_out(run.dataset)
    if run.in_memory and run.dataset.kind == "folder":  # a transfer reads them at another size
        numbers["files_sha256"] = of_images(Path(str(run.dataset.path)), image_files(run.dataset))
    print(json.dumps(numbers), file=sys.stderr)
    write_metrics(folder / "metrics.json", "data", run, numbers, time.monotonic() - start)


def _of_arrays(dataset: Dataset) -> dict[str, Any]:
    """Numbers of a data set that is held in memory; the digest is of its pixels and labels."""
    train, test = load(dataset, torch.device("cpu"))
    statistics = Statistics.of(train)
    return {
        "train_images": len(train),
        "test_images": len(test),
        "mean": [round(v / 255, 6) for v in statistics.mean.flatten().tolist()],
        "std": [round(v / 255, 6) for v in statistics.std.flatten().tolist()],
        "sha256": digest_of(train, test),
    }


def _of_folder(dataset: Dataset, opened: bool) -> dict[str, Any]:
    """Numbers of a folder of images, which are decoded to no other end than to know that they can be."""
    assert dataset.path is not None
    if dataset.kind == "digit_photos":
        write_photos(Path(dataset.path), *digit_halves())
    numbers = describe(dataset)
    return numbers | ({"sha256": open_all(Path(dataset.path), image_files(dataset))} if opened else {})
