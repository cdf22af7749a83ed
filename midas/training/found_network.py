"""Which network is trained of a found cell? That of the protocol's size, in its memory layout on the device."""

from __future__ import annotations

import torch

from midas.config.settings import Retrain, Transfer
from midas.networks.skeletons import Skeleton, build
from midas.spaces.genotype import Genotype


def make_network(genotype: Genotype, settings: Retrain | Transfer, classes: int, device: torch.device) -> Skeleton:
    """The network of a cell for small images, or for large ones where it is to be transferred."""
    auxiliary, imagenet = settings.auxiliary > 0, isinstance(settings, Transfer)
    network = build(genotype, settings.channels, settings.cells, classes, auxiliary, imagenet)
    return network.to(device).to(memory_format=memory_format(settings))


def memory_format(settings: Retrain | Transfer) -> torch.memory_format:
    """The memory layout of the maps."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format
