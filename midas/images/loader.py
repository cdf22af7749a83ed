"""How images come to a training: loaded on the device as uint8, normalised, shuffled and augmented as batches.

Every random draw is a function of (seed, stream, epoch, step), so that a resumed run sees what an uninterrupted one sees,
on whatever device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.images.datasets import Dataset
from midas.images.reading import AT_ONCE, Images
from midas.images.seeds import generator


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
        order: "shuffled" (each image once an epoch), "fresh" (each batch from a shuffle of its own) or "random" (each image drawn
            by itself, so that it may be twice in a batch).

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
        order: str = "shuffled",
    ):
        if len(images) < batch_size:
            raise ValueError(
                f"batch_size: {batch_size} is not allowed; {dataset.name} has {len(images)} images for {stream}"
            )
        self.images, self.statistics, self.batch_size = images, statistics, batch_size
        self.seed, self.stream, self.dataset, self.cutout, self.order = seed, stream, dataset, cutout, order

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
        order = self._order(generator(self.seed, self.stream, epoch, 0))
        augmented = [self._draw(generator(self.seed, self.stream, epoch, step)) for step in steps]
        whole = [None if xs[0] is None else torch.stack(xs) for xs in zip(*augmented, strict=True)]
        device = self.images.labels.device
        return Draws(order.to(device), *(None if x is None else x.to(device) for x in whole))

    def _order(self, draw: torch.Generator) -> Tensor:
        """Indices of the images of each batch [steps, B]."""
        count, steps, batch = len(self.images), len(self), self.batch_size
        if self.order == "random":
            return torch.randint(count, (steps, batch), generator=draw)
        if self.order == "fresh":
            return torch.stack([torch.randperm(count, generator=draw)[:batch] for _ in range(steps)])
        return torch.randperm(count, generator=draw)[: steps * batch].view(steps, -1)

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
