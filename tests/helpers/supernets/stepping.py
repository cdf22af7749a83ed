"""Searches of random batches with parts of methods, whose weights are always the same at the start."""

import torch

from midas.config.method import Method
from midas.config.settings import Search
from midas.methods.composition import supernet_of
from midas.spaces import SPACES
from midas.training.bilevel import Bilevel
from midas.training.sums import SearchSums

CPU = torch.device("cpu")
SETTINGS = Search(channels=4, cells=1, epochs=2, arch_lr=0.01)
STATIC = Method(weights="static")


def batch(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 16, 16, generator=draw), torch.randint(10, (8,), generator=draw)


def made(learning=None, method=STATIC, space="nas_bench_201", cells=1, **settings):
    """A search of random batches, its weights always the same at the start."""
    torch.manual_seed(0)
    settings = SETTINGS.model_copy(update={"cells": cells, **settings})
    supernet = supernet_of(SPACES[space], method, settings.channels, cells, 10, merged=bool(settings.merge_edges))
    return Bilevel(supernet.to(memory_format=torch.channels_last), settings, CPU, learning)


def stepped(learning=None, steps=3, first_epoch=0, **options):
    found = made(learning, **options)
    found.begin(first_epoch)
    sums = SearchSums()
    for step in range(steps):
        found.step(batch(2 * step), batch(2 * step + 1), sums)
    return found


def parameters(found):
    return [*found.weights, *found.architecture]


def same(found, other):
    return all(torch.equal(a, b) for a, b in zip(parameters(found), parameters(other), strict=True))
