"""The embedded images: scikit-learn's digits, alone and side by side in pairs, in a fixed order."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from midas.images.datasets import Dataset

PAIRS_PER_CLASS = {"train": 10, "test": 4}
DIGITS = 1_797
DIGITS_TEST = 360
"""Test images of the digits: a fifth of them."""

Arrays = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Pixels uint8 [n, 3, height, width] and labels of the training and of the test images."""


def digits(_: Dataset) -> Arrays:
    """The 1,797 digits, each pixel a square of four."""
    return _as_images(*digit_halves())


def digit_halves() -> Arrays:
    """Training and test part of scikit-learn's digits: [n, 8, 8] uint8 and labels, in a fixed order."""
    levels, labels = _digit_table()
    pixels = np.round(levels * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return (pixels[train], labels[train]), (pixels[test], labels[test])


def _digit_table() -> tuple[np.ndarray, np.ndarray]:
    """Gray levels 0 to 16, [1797, 8, 8], and labels of scikit-learn's digits, from its file: its import takes seconds."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ValueError("the embedded digits need the package scikit-learn, which is not installed")
    path = Path(package.origin).parent / "datasets/data/digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: scikit-learn's digits can't be read: {error}") from error
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def digit_pairs(_: Dataset) -> Arrays:
    """Two digits side by side: class 10 a + b. Test pairs are made of test digits only."""
    halves, parts = digit_halves(), []
    for (pixels, labels), count in zip(halves, PAIRS_PER_CLASS.values(), strict=True):
        draw = np.random.default_rng(1)
        members = [np.flatnonzero(labels == digit) for digit in range(10)]
        classes = np.tile(np.arange(100), count)
        left = np.array([draw.choice(members[c // 10]) for c in classes])
        right = np.array([draw.choice(members[c % 10]) for c in classes])
        parts.append((np.concatenate([pixels[left], pixels[right]], axis=2), classes))
    return _as_images(*parts)


def _as_images(*parts: tuple[np.ndarray, np.ndarray]) -> Arrays:
    """Gray [n, h, w] to [n, 3, 2h, 2w], each pixel a square of four."""
    train, test = (
        (np.repeat(x.repeat(2, axis=1).repeat(2, axis=2)[:, None], 3, axis=1), labels) for x, labels in parts
    )
    return train, test
