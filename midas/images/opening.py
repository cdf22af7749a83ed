"""One image file as RGB: what all that reads folders of images calls."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from midas.images.contents import of_images

TWELVE_BITS = 1 << 12
SAY_EVERY = 100_000
"""Images between two lines on how far opening all of them has come."""


class UnreadableError(ValueError):
    """An image file that can't be read; the message is one line that names it."""

    def __init__(self, message: str):
        # torch raises a worker's error anew, with the worker's whole stack before its last line
        super().__init__(message.strip().splitlines()[-1].removeprefix(f"{__name__}.{type(self).__name__}: "))


def read_rgb(file: Path, content: bytes | None = None) -> Image.Image:
    """Decode an image file, or its content where that was read.

    Transparency is dropped, of an animation the first frame is taken. Gray values of 16 bits are scaled to 8.

    Raises:
        UnreadableError: it can't be read, or it holds numbers of which it isn't known which are black and white.
    """
    try:
        with warnings.catch_warnings():
            # a large image, an odd palette or damaged metadata: without the file's name, and its pixels are right
            warnings.simplefilter("ignore")
            with Image.open(file if content is None else io.BytesIO(content)) as image:
                return _eight_bits(image).convert("RGB")
    except Exception as error:  # of a damaged file Pillow raises whatever comes up
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(" ".join(f"{file}: not a readable image: {reason}".splitlines())) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image whose values go to 255; Pillow itself would make white of all that is more."""
    if image.mode == "F" or image.mode[0] == "I":
        if not (image.format == "PNG" and image.mode.startswith("I;16")):
            raise ValueError(
                f"{image.format} of the mode {image.mode}, whose black and white aren't known; store 8 bits"
            )
        values = np.asarray(image)
        if 0 < values.max() < TWELVE_BITS:
            raise ValueError(
                f"its 16 bits hold values to {values.max()}, so that white isn't known; store 8 bits, or values to 65535"
            )
        return Image.fromarray((values >> 8).astype(np.uint8))  # the upper half, as Pillow takes it of coloured images
    return image


def open_all(path: Path, files: Sequence[Path]) -> str:
    """Decode images that will be read later, so that a damaged one is known before hours of training.

    Args:
        path: a folder.
        files: below it.

    Returns:
        A digest of their names there and of what they hold.

    Raises:
        ValueError: one can't be read.
    """
    numbers = count(1)

    def look(file: Path, content: bytes) -> None:
        read_rgb(file, content)
        if (number := next(numbers)) % SAY_EVERY == 0:
            print(f"data: {number} of {len(files)} images opened", file=sys.stderr, flush=True)

    return of_images(path, files, look)
