"""How fast this device searches, retrains and transfers: a few steps on random images, timed for each distinct setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

import torch

from midas.config.method import DECODING, Method
from midas.config.settings import Retrain, Search, Transfer
from midas.measuring.synthetic import SyntheticSearch, random_batch
from midas.measuring.timing import seconds_of
from midas.methods.decoding import random_genotype
from midas.methods.passes import Batch
from midas.networks.skeletons import Skeleton
from midas.spaces import get_space
from midas.training.found_network import make_network

FEW = 8
"""Images of the first batch that is timed."""
ENOUGH = 1.0
"""Seconds of a step from which on a larger batch isn't tried: the time of an image no longer depends on it."""
STEPS = 2
"""Timed steps, after one as a warm-up."""

Step = Callable[[int], object]
"""Computes on a batch of so many images."""


@dataclass(frozen=True)
class Setting:
    """What a step's speed depends on. The number of classes, the epochs and the learning rate make no difference.

    Attributes:
        step: "search", "retrain" or "transfer".
        space: name of the space.
        image: height and width in pixels.
        batch: images of a batch on one device.
        protocol: settings of the step.
        classes: of the data set.
        method: of a search.
        method_name: its name in the configuration.
        key: what of `protocol` and `method` makes settings different.
    """

    step: Literal["search", "retrain", "transfer"]
    space: str
    image: tuple[int, int]
    batch: int
    protocol: Search | Retrain | Transfer = field(compare=False)
    classes: int = field(compare=False)
    method: Method | None = field(default=None, compare=False)
    method_name: str = field(default="", compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        protocol = self.protocol.model_dump_json(exclude={"dataset", "methods", "seeds", "epochs", "lr"})
        method = self.method.model_dump_json(exclude=DECODING) if self.method else ""
        object.__setattr__(self, "key", protocol + method)

    def __str__(self) -> str:
        by = f" by {self.method_name}" if self.method else ""
        size = f"cells {self.protocol.cells}, channels {self.protocol.channels}"
        return f"{self.step} {self.space}{by}, {self.image[0]}x{self.image[1]} images, {size}"


class Speed(NamedTuple):
    """What was measured of a setting.

    Attributes:
        train: seconds for one image in training; in a search for one of each half.
        test: seconds for one image in a test.
        images: images of the largest batch that was timed.
        fits: whether memory sufficed for each batch that was tried.
    """

    train: float
    test: float
    images: int
    fits: bool = True


def measure(setting: Setting, device: torch.device) -> Speed:
    """Time a few steps of a setting.

    Raises:
        ValueError: the device's memory doesn't suffice for a few images.
    """
    train, test = STEPPERS[setting.step](setting, device)
    return speed_of(train, test, setting, device)


def speed_of(train: Step, test: Step, setting: Setting, device: torch.device) -> Speed:
    """Time steps on batches that grow to the whole one, or until they take long or no longer fit.

    Raises:
        ValueError: the device's memory doesn't suffice for a few images.
    """
    found: Speed | None = None
    images, fits = min(FEW, setting.batch), True
    while found is None or (fits and images > found.images):
        try:
            seconds = [_seconds(step, images, device) for step in (train, test)]
            found = Speed(seconds[0] / images, seconds[1] / images, images)
            if seconds[0] < ENOUGH:
                images = min(2 * images, setting.batch)
        except torch.OutOfMemoryError as error:
            fits = False
            if found is None:
                raise ValueError(f"{setting}: the device's memory doesn't suffice for {images} images") from error
    return found._replace(fits=fits)


def _seconds(step: Step, images: int, device: torch.device) -> float:
    step(images)
    return seconds_of(lambda: step(images), STEPS, device)


def _search(setting: Setting, device: torch.device) -> tuple[Step, Step]:
    assert isinstance(setting.protocol, Search)
    assert setting.method is not None
    search = SyntheticSearch(setting.space, setting.method, setting.protocol, setting.classes, device)
    batch = _batches(setting, device)
    return lambda images: search.step(batch(images), batch(images)), lambda images: search.test(batch(images))


def _retrain(setting: Setting, device: torch.device) -> tuple[Step, Step]:
    from midas.training.retraining import Retraining  # timm takes seconds, and the plan alone has no use for it

    assert isinstance(setting.protocol, Retrain)
    trainer = Retraining(_network(setting, device), setting.protocol, seed=0)
    batch, epoch = _batches(setting, device), setting.protocol.epochs // 2  # where drop-path is on
    return lambda images: trainer.train([batch(images)], epoch), lambda images: trainer.test([batch(images)])


def _transfer(setting: Setting, device: torch.device) -> tuple[Step, Step]:
    from midas.running.processes import Group
    from midas.training.transferring import Transferring

    assert isinstance(setting.protocol, Transfer)
    network = _network(setting, device)
    trainer = Transferring(network, setting.protocol, 0, setting.classes, 1, Group(device))
    batch, epoch = _batches(setting, device), setting.protocol.epochs // 2
    return lambda images: trainer.train([batch(images)], epoch), lambda images: trainer.test([batch(images)])


STEPPERS: dict[str, Callable[[Setting, torch.device], tuple[Step, Step]]] = {
    "search": _search,
    "retrain": _retrain,
    "transfer": _transfer,
}
"""Step -> makes its computation in training and in a test."""


def _network(setting: Setting, device: torch.device) -> Skeleton:
    """The network of a random cell of the space."""
    protocol = setting.protocol
    assert isinstance(protocol, Retrain | Transfer)
    genotype = random_genotype(get_space(setting.space), 0, decode_none=False)
    return make_network(genotype, protocol, setting.classes, device)


def _batches(setting: Setting, device: torch.device) -> Callable[[int], Batch]:
    """Makes a random batch of each size once, so that only the first step with it pays for that."""
    return cache(lambda images: random_batch(images, setting.image, setting.classes, device))
