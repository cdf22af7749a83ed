"""Batches of a folder of large images, decoded by worker processes as they are needed: timm's transforms and loader."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from timm.data import create_loader
from torch import Tensor
from torch.utils.data import Dataset as Indexed
from torch.utils.data import Sampler

from midas.config.settings import Transfer
from midas.images.datasets import Dataset
from midas.images.listing import folder_files, folder_parts
from midas.images.opening import read_rgb
from midas.images.seeds import generator
from midas.running.processes import Group
from midas.running.waiting import Awaited, check_shared_memory
from midas.training.trainer import Batches


class Photos(Indexed[tuple[Tensor, int]]):
    """The images of a folder; what timm's transforms draw is a function of (seed, epoch, image) alone.

    So neither the number of processes and workers nor a restart changes what is seen of an image.

    Args:
        part: folder with a folder of images for each class.
        seed: of the augmentation.

    Attributes:
        classes: their names, in the order of their numbers.
        files: image files with the numbers of their classes, in the order that timm's own reader gives them: by name, numbers
            in names by their value.
        transform: from image to tensor; timm's loader sets it.
    """

    transform: Callable[[Image.Image], Tensor]

    def __init__(self, part: Path, seed: int):
        found = folder_files(part)
        self.classes = list(found)
        numbered = [(str(file), number) for number, files in enumerate(found.values()) for file in files]
        self.files = sorted(numbered, key=lambda pair: _by_value(pair[0]))
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An image and its class; unlike timm's, it doesn't put the next image in place of one that can't be read.

        Raises:
            UnreadableError: it can't be read.
        """
        number = generator(self.seed, "photo", self.epoch, index).initial_seed()
        random.seed(number)
        torch.default_generator.manual_seed(number)
        file, label = self.files[index]
        return self.transform(read_rgb(Path(file))), label


def _by_value(name: str) -> list[str | int]:
    """Sorts 10.jpg after 9.jpg, whatever the case of letters."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


class _From(Sampler[int]):
    """The numbers of another sampler, less the `first` ones."""

    def __init__(self, sampler: Sampler[int]):
        self.sampler, self.first = sampler, 0

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.sampler), self.first, None)


class PhotoLoader:
    """Batches of a folder of images on the device, normalised by ImageNet's mean and deviation.

    Args:
        dataset: the folder, and the size of its images.
        settings: batch size and augmentation.
        seed: of the order and the augmentation.
        group: each process gets its share of every batch.
        training: shuffled and augmented without the last, smaller batch; else all images once and in order.

    Raises:
        ValueError: the folder doesn't have the classes of its description, or fewer images than a batch.
    """

    def __init__(self, dataset: Dataset, settings: Transfer, seed: int, group: Group, training: bool):
        assert dataset.path is not None
        part = folder_parts(Path(dataset.path), dataset.kind)[not training]
        self.photos, self.seed, self.group = Photos(part, seed), seed, group
        if len(self.photos.classes) != dataset.classes:
            raise ValueError(f"{part}: {dataset.name} has {dataset.classes} classes")
        if training and len(self.photos) < settings.batch_size:
            raise ValueError(
                f"batch_size: {settings.batch_size} is not allowed; {dataset.name} has {len(self.photos)} images"
            )
        self.loader = create_loader(
            self.photos,  # type: ignore[arg-type]  # it sets their transform, and asks for no more
            dataset.image,
            settings.batch_size // group.size,
            is_training=training,
            scale=(settings.crop_scale, 1.0),
            hflip=0.5 if settings.flip and dataset.flip else 0.0,
            color_jitter=settings.color_jitter,
            num_workers=settings.workers,
            distributed=group.size > 1,
            pin_memory=group.device.type == "cuda",
            device=group.device,
            persistent_workers=False,  # workers started anew know the epoch
        )

        self.batch = settings.batch_size // group.size
        loader = self.loader.loader
        self.sampler = loader.sampler
        self.order = loader.batch_sampler.sampler = _From(loader.batch_sampler.sampler)
        if settings.workers > 0:
            if training:
                sizes = dataset.image, settings.batch_size, settings.workers, len(loader)
                check_shared_memory(*sizes, warns=group.rank == 0)
            self.loader.loader = Awaited(loader, alone=group.size == 1)

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, first: int = 0) -> Batches:
        """The shuffled batches of one epoch, less the `first` ones: images float32 [B, 3, h, w] and labels int64 [B]."""
        self.photos.epoch = epoch
        self.order.first = first * self.batch
        number = generator(self.seed, "order", epoch, 0).initial_seed()
        if self.group.size > 1:
            self.sampler.seed = number
        else:
            self.sampler.generator = torch.Generator().manual_seed(number)
        return self.loader

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the images, each of them in one share alone."""
        # timm's sampler makes shares equal by repeating images at the end
        left = len(range(self.group.rank, len(self.photos), self.group.size))
        for x, y in self.loader:
            if left:
                yield x[:left], y[:left]
            left -= min(left, len(y))
