"""Which training images a search learns the weights on, and which the architecture."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midas.files.texts import read_text
from midas.images.datasets import Dataset

if TYPE_CHECKING:
    from torch import Tensor


def search_halves(dataset: Dataset, count: int, first: int | None = None) -> tuple[Tensor, Tensor]:
    """Indices of the training images that the weights and the architecture are searched on.

    The same for all seeds. NAS-Bench-201 has index lists of its own for CIFAR-10 (key cifar10_split); elsewhere the halves
    are random, since a user's images may be sorted.

    Args:
        dataset: names the file with the lists, if there is one.
        count: number of training images.
        first: of the training images the first so many alone are searched on: half of them for the weights, the rest for the
            architecture, whatever lists there are; None: as above.

    Raises:
        ValueError: the file can't be used, or names an image that doesn't exist; or there are not so many images.
    """
    import torch  # the checks of a configuration, which read lists alone, need none

    if first is not None:
        if first > count:
            raise ValueError(f"first_images: {first} is not allowed; {dataset.name} has {count} training images")
        return torch.arange(first // 2), torch.arange(first // 2, first)
    if dataset.split is None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        train, valid = order[: count // 2], order[count // 2 :]
    else:
        lists = read_split(Path(dataset.split))
        train, valid = torch.tensor(lists["train"]), torch.tensor(lists["valid"])
        if (last := int(torch.cat([train, valid]).max())) >= count:
            raise ValueError(f"{dataset.split}: image {last} does not exist; {dataset.name} has 0 to {count - 1}")
    return train.sort().values, valid.sort().values


def read_split(path: Path) -> dict[str, list[int]]:
    """The index lists "train" and "valid" of a search split: JSON, may be compressed (see `midas.files.texts`).

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
