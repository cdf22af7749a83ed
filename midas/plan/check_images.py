"""Whether there are images enough, and large enough, for what a configuration does with them; part of `midas.plan.check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midas.config.keys import Analysis, Experiment
from midas.config.method import UNSEARCHED, Method
from midas.config.settings import Retrain, Transfer
from midas.images.datasets import IMAGES, Dataset, images_of
from midas.images.halves import read_split
from midas.plan.plan import Plan
from midas.spaces import Space

TRANSFER_SHRINK = 32
"""The network for large images halves them five times."""
FEWEST_TESTED = 4
"""Validation images; the dip test says nothing about fewer."""


def training_images(dataset: Dataset) -> int | None:
    """How many there are; None where that takes long to find out."""
    return None if dataset.kind == "imagenet" else images_of(dataset)[0]


def read_cifar10_split(path: Path) -> None:
    """Whether the lists of a file split the training images of CIFAR-10.

    Raises:
        ValueError: as `read_split`, or an image doesn't exist.
    """
    lists = read_split(path)
    if (last := max(max(indices) for indices in lists.values())) >= IMAGES["cifar10"][0]:
        raise ValueError(f"{path}: image {last} does not exist; CIFAR-10 has 0 to {IMAGES['cifar10'][0] - 1}")


def _halves(dataset: Dataset, first: int | None = None) -> tuple[int, int] | None:
    """Images that the weights and the architecture are searched on, of the first ones or all; None where they aren't known."""
    count = training_images(dataset)
    if count is None:
        return None
    if first is not None:
        return first // 2, first - first // 2
    if dataset.split is None:
        return count // 2, count - count // 2
    try:
        lists = read_split(Path(dataset.split))
    except ValueError:
        return None  # said at its key
    return len(lists["train"]), len(lists["valid"])


def image_problems(plan: Plan, space: Space, experiment: Experiment, dataset: Dataset, key: str) -> Iterator[str]:
    """What is wrong with searches and retrainings of an experiment on its images."""
    named = [*experiment.methods, *experiment.ablation]
    if experiment.cost:
        named += [experiment.cost.baseline, *experiment.cost.methods]
    known = {name: plan.config.methods[name] for name in dict.fromkeys(named) if name in plan.config.methods}
    searched = {name: method for name, method in known.items() if method.weights not in UNSEARCHED}
    retrain = experiment.retrain if experiment.methods and plan.evaluation(space.name) == "retrain" else None
    networks = [experiment.search.cells] if searched else []
    networks += [settings.cells for settings in experiment.retrainings().values()] if retrain else []
    shrink = max((layer.shrink for cells in networks for layer in space.skeleton(cells)), default=1)
    if any(side % shrink for side in dataset.image):
        yield f"{key}.dataset: images of {dataset.image[0]}x{dataset.image[1]} can't be halved to 1/{shrink}"
        return
    halves, too_many = _halves(dataset, experiment.search.first_images), list(_first_problems(experiment, dataset, key))
    yield from too_many
    if searched and halves and not too_many:
        yield from _search_problems(space, experiment, dataset, searched, halves, key)
    if retrain is not None:
        for name, settings in experiment.retrainings().items():
            at = "retrain" if name == experiment.retrain_as else f"retrain_also.{name}"
            yield from _retrain_problems(settings, dataset, f"{key}.{at}")


def _first_problems(experiment: Experiment, dataset: Dataset, key: str) -> Iterator[str]:
    """More images than there are, or other ones for one method than for another."""
    count, first = training_images(dataset), experiment.search.first_images
    if count is not None and first is not None and first > count:
        yield f"{key}.search.first_images: {first} is not allowed; {dataset.name} has {count} training images"
    for name in experiment.search_of:
        if (own := experiment.search_by(name).first_images) != first:
            yield f"{key}.search_of.{name}.first_images: {own} is not allowed; all methods see the same images: {first}"


def _retrain_problems(retrain: Retrain, dataset: Dataset, key: str) -> Iterator[str]:
    """What is wrong with a retraining on its images."""
    count = training_images(dataset)
    if count is not None and retrain.leave_out >= count:
        yield f"{key}.leave_out: {retrain.leave_out} is not allowed; {dataset.name} has {count} training images"
    elif count is not None and count - retrain.leave_out < retrain.batch_size:
        there = f"{count} training images" + (f", {retrain.leave_out} of them left out" if retrain.leave_out else "")
        yield f"{key}.batch_size: {retrain.batch_size} is not allowed; {dataset.name} has {there}"
    if retrain.cutout >= 2 * max(dataset.image):
        yield (
            f"{key}.cutout: {retrain.cutout} is not allowed on {dataset.image[0]}x{dataset.image[1]} images, none of "
            f"which would show anything; below {2 * max(dataset.image)}"
        )
    if retrain.nesterov and retrain.momentum == 0:
        yield f"{key}.nesterov: true is not allowed with momentum 0"


def _search_problems(
    space: Space,
    experiment: Experiment,
    dataset: Dataset,
    methods: dict[str, Method],
    halves: tuple[int, int],
    key: str,
) -> Iterator[str]:
    for name in experiment.search_of.keys() & methods.keys():
        if min(halves) < (own := experiment.search_by(name).batch_size):
            has = f"{dataset.name} has halves of {halves[0]} and {halves[1]} images"
            yield f"{key}.search_of.{name}.batch_size: {own} is not allowed; {has}"
    batch = experiment.search.batch_size
    if min(halves) < batch:
        yield (
            f"{key}.search.batch_size: {batch} is not allowed; {dataset.name} has {halves[0]} training images for the weights "
            f"and {halves[1]} for the architecture"
        )
        return
    shrink = max(layer.shrink for layer in space.skeleton(experiment.search.cells))
    if dataset.image != (shrink, shrink):
        return
    for name, method in methods.items():
        asked = method.decode_batch or experiment.search_by(name).batch_size
        batches = -(-halves[1] // asked)  # as equal in size as can be
        if halves[1] // batches == 1:
            yield (
                f"methods.{name}.decode_batch: {method.decode_batch or 'null'} is not allowed; it cuts the {halves[1]} "
                f"validation images of {dataset.name} into batches of which one has 1 image, and batch normalisation needs "
                f"two values of a map of 1x1"
            )


def transfer_problems(dataset: Dataset, transfer: Transfer, key: str) -> Iterator[str]:
    """What is wrong with a transfer to the images of its data set."""
    count = training_images(dataset)
    if count is not None and count < transfer.batch_size:
        yield f"{key}.batch_size: {transfer.batch_size} is not allowed; {dataset.name} has {count} training images"
    if transfer.batch_size == transfer.gpus and transfer.image_size == TRANSFER_SHRINK:
        yield (
            f"{key}.batch_size: {transfer.batch_size} is not allowed; it is 1 image on each GPU, and batch normalisation needs "
            f"two values of a map of 1x1"
        )
    if transfer.channels < 2:
        yield f"{key}.channels: {transfer.channels} is not allowed; the network for large images needs at least 2"


def analysis_problems(dataset: Dataset, analysis: Analysis) -> Iterator[str]:
    """Whether what the analysis compares can be there."""
    if dataset.classes < 2:
        yield f"analysis.dataset: {analysis.dataset!r} is not allowed; it has one class, and classes are compared"
    halves = _halves(dataset)
    if halves and halves[1] < FEWEST_TESTED:
        yield (
            f"analysis.dataset: {analysis.dataset!r} is not allowed; it has {halves[1]} images for the architecture, and the dip "
            f"test needs {FEWEST_TESTED}"
        )
