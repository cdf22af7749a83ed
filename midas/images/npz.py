"""An npz file with images and labels as a data set of the user's own. Nothing here needs torch."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Npz:
    """An npz data set, of which nothing large is read before it is asked for.

    Attributes:
        shapes: of the images by part, (n, height, width, 3).
        labels: of each part, [n].

    Raises:
        ValueError: the file is damaged, lacks an array, or an array has another shape or type than documented.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.labels: dict[str, np.ndarray] = {}
        with self._opened() as file:
            missing = [name for name in ARRAYS if name not in file]
            if missing:
                raise ValueError(f"lacks {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
            for part in ("train", "test"):
                shape, dtype = self._header(f"x_{part}")
                if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8:
                    raise ValueError(f"x_{part} is {dtype} {list(shape)}; it must be uint8 [n, height, width, 3]")
                y = file[f"y_{part}"]
                if y.shape != shape[:1] or not np.issubdtype(y.dtype, np.integer) or len(y) == 0 or y.min() < 0:
                    raise ValueError(f"y_{part} must hold a class number (0, 1, ...) for each image of x_{part}")
                self.shapes[part], self.labels[part] = shape, y
            if self.shapes["train"][1:] != self.shapes["test"][1:]:
                raise ValueError("the images of x_train and x_test differ in size")

    def images(self, part: str) -> np.ndarray:
        """The images of a part, uint8 [n, height, width, 3].

        Raises:
            ValueError: the file is damaged.
        """
        with self._opened() as file:
            return file[f"x_{part}"]

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, which isn't read."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            version, _ = np.lib.format.read_magic(file)
            shape, _, dtype = read[version](file)
        return shape, dtype

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with zipfile.ZipFile(self.path), np.load(self.path, allow_pickle=False) as file:
                yield file
        except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.path}: not a usable npz data set: {error}") from error
