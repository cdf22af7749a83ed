"""Data sets of images for tests."""

import numpy as np
import torch

from midas.config.settings import UserDataset
from midas.images.datasets import Dataset, resolve

CPU = torch.device("cpu")


def own(kind, path, **keys):
    return resolve("mine", {"mine": UserDataset(kind=kind, path=str(path), **keys)}, None, None)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


GRAY = (np.arange(6 * 64).reshape(6, 8, 8) % 256).astype(np.uint8)
PARTS = ((GRAY[:4], np.array([0, 1, 1, 0])), (GRAY[4:], np.array([0, 1])))


def folder_dataset(path, classes=2, kind="folder"):
    return Dataset(name="mine", kind=kind, path=str(path), classes=classes, image=(32, 32), flip=True, padding=0)


def an_image(path):
    return (path / "train/0/0000.jpg").read_bytes()
