"""Steps of a search as a CUDA graph records them, run on a CPU under a mode that refuses what no graph can hold."""

import copy
from itertools import product

import pytest
import torch
from recordable import Recordable, UnrecordableError

from midas.config.method import Method
from midas.config.settings import Search
from midas.images.datasets import KNOWN
from midas.images.loader import Loader, Statistics
from midas.images.reading import Images
from midas.methods.composition import compose
from midas.networks.depthwise import use_own_gradients
from midas.spaces import SPACES, get_space
from midas.supernet.cpu import kernels
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.recorded import RecordedSteps
from midas.training.sums import SearchSums

CPU = torch.device("cpu")

REFUSED = {
    "a tensor of a list": lambda x: torch.tensor([1, 2]),
    "a list as an index": lambda x: x[:, [0, 1]],
    "a number read back": lambda x: float(x[0, 0]),
    "a condition": lambda x: bool((x > 0).any()),
    "a tensor as a Python index": lambda x: x[torch.ones((), dtype=torch.int64)],
    "a mask as an index": lambda x: x[x > 0],
    "places of what isn't zero": lambda x: x.nonzero(),
    "repeats that are values": lambda x: x.repeat_interleave(torch.arange(len(x)), 0),
    "to another device": lambda x: x.to("meta"),
}
TAKEN = {
    "numbers in order": lambda x: torch.arange(3),
    "a tensor as an index": lambda x: x[:, torch.arange(2)],
    "a choice": lambda x: torch.where(x > 0, x, 1.0),
    "repeats": lambda x: x.repeat_interleave(2, 0),
    "another type": lambda x: x.to(torch.float64),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_a_graph_cannot_hold_is_refused(call):
    x = torch.randn(4, 4)
    with pytest.raises(UnrecordableError), Recordable():
        call(x)


@pytest.mark.parametrize("call", TAKEN.values(), ids=TAKEN)
def test_what_a_graph_can_hold_is_not(call):
    x = torch.randn(4, 4)
    with Recordable():
        call(x)


# --- every kind of training pass

ATTENTION = {
    "as it is": {},
    "no patch": {"patch_size": None},
    "small patches": {"patch_size": 2},
    "W_K of each operation": {"keys": "per_operation"},
    "mixed by patch": {"mixing": "patch"},
    "frozen": {"projections": "frozen"},
    "detached": {"detach": True},
    "another scale": {"scale": 4.0},
    "a logit for none": {"none_logit": "learned"},
    "of length 1, without decay": {"normalise": "length", "weight_decay": 0.0},
    "layer norm, a learned scale": {"normalise": "layer_norm", "learn_scale": True, "decoupled_weight_decay": True},
    "ReLU of means": {"activation": "relu", "normalise": "length"},
    "ReLU of maps": {"activation": "relu", "projected": "maps", "normalise": "length"},
    "norm and ReLU of maps": {"activation": "norm_relu", "projected": "maps", "keys": "per_operation"},
    "all at once": {"keys": "per_operation", "mixing": "patch", "none_logit": "learned", "detach": True},
}
METHODS = {
    f"{name}, {distribution}": {"patch_size": 4, "distribution": distribution} | changed
    for distribution, (name, changed) in product(("edge", "node", "pairs"), ATTENTION.items())
} | {
    f"static, {distribution}": {"weights": "static", "distribution": distribution} for distribution in ("edge", "pairs")
}
WAYS = {
    "merged, bfloat16": {"merge_edges": True, "precision": "bfloat16"},
    "edge by edge": {"merge_edges": False},
    "as torch has it": {"fast": False, "channels_last": False},
}


def images(count=16):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.randint(10, (count,), generator=generator))


def steps_of(space, method, **settings):
    """The steps of a search as a GPU has them: nothing by the kernels of a CPU."""
    protocol = {"channels": 2, "cells": SPACES[space].min_cells, "epochs": 2, "batch_size": 4, "cuda_graph": True}
    search = Search(**protocol | settings)
    torch.manual_seed(0)
    supernet = make_supernet(compose(Method(**method), get_space(space)), search, 10, CPU)
    use_own_gradients(supernet, fast=False)
    order, sums, own = Bilevel(supernet, search, CPU), SearchSums(), images()
    loaders = [Loader(own, Statistics.of(own), 4, 0, name, KNOWN["cifar10"]) for name in ("train", "valid")]
    return RecordedSteps(order, loaders, sums)


FEW = ("as it is", "all at once", "static")
"""Recorded with each set of the softmax, and in each way; all others with the space's own set."""


def cases():
    """Space, method and way: every option in either space."""
    for (space, own), (name, way) in product(
        {"nas_bench_201": "edge", "darts": "pairs"}.items(), product(METHODS, WAYS)
    ):
        few, distribution = name.startswith(FEW), name.rsplit(", ")[-1]
        whole = distribution == own or (few and way == "merged, bfloat16")
        if whole and (few or way == "merged, bfloat16") and (space == "darts" or distribution != "pairs"):
            yield space, name, way


@pytest.mark.parametrize(("space", "method", "way"), list(cases()))
def test_every_method_can_be_recorded(space, method, way, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    steps = steps_of(space, METHODS[method], **WAYS[way])
    steps.search.begin(0)
    steps.begin(0, 0)
    steps.compute(True)  # the first step makes what the optimisers keep
    steps.compute(False)  # as in the epochs of a warm-up
    with Recordable():
        steps.compute(True)
        steps.compute(False)
    assert steps.next.tolist() == [4]
    assert steps.sums.train.batches == steps.sums.valid.batches == 4


@pytest.mark.parametrize("method", ["as it is, pairs", "static, edge"])
@pytest.mark.parametrize("space", ["s1", "s2", "s3", "s4"])
def test_every_space_can_be_recorded(space, method, monkeypatch):
    test_every_method_can_be_recorded(space, method, "merged, bfloat16", monkeypatch)


# --- what is recorded is the search


def test_recorded_steps_take_the_batches_of_the_loader(monkeypatch):
    steps = steps_of("nas_bench_201", {"patch_size": 4})
    seen = []
    monkeypatch.setattr(steps.search, "step", lambda train, valid, sums, learns: seen.append((*train, *valid)))
    for epoch, first in ((0, 0), (1, 2)):
        steps.begin(epoch, first)
        for expected in zip(*(loader.epoch(epoch, first) for loader in steps.loaders), strict=True):
            steps.compute(True)
            wanted = [x for batch in expected for x in batch]
            assert all(torch.equal(a, b) for a, b in zip(seen.pop(), wanted, strict=True))


def test_tensors_stay_where_they_are_from_epoch_to_epoch():
    steps = steps_of("nas_bench_201", {"patch_size": 4})

    def places():
        optimizers = (steps.search.weight_optimizer, steps.search.architecture_optimizer)
        kept = [x for o in optimizers for state in o.state.values() for x in state.values()]
        kept += [o.param_groups[0]["lr"] for o in optimizers[:1]]
        kept += [x for draws in steps.draws for x in draws if x is not None]
        for half in (steps.sums.train, steps.sums.valid):
            kept += [*half.sums.values(), half.count, half.bad.step]
        return [x.data_ptr() for x in [*kept, steps.next, *steps.search.supernet.parameters()]]

    found = []
    for epoch in range(2):
        steps.search.begin(epoch)
        steps.begin(epoch, 0)
        for _ in range(4):
            steps.compute(True)
        found.append(places())
        steps.sums.clear()
    assert found[0] == found[1]


def test_optimisers_of_a_graph_do_what_the_others_do():
    ends = []
    for graph in (True, False):
        steps = steps_of("nas_bench_201", {"patch_size": 4}, cuda_graph=graph)
        for epoch in range(2):
            steps.search.begin(epoch)
            steps.begin(epoch, 0)
            for _ in range(4):
                steps.compute(True)
        assert float(steps.search.weight_optimizer.param_groups[0]["lr"]) == pytest.approx(steps.search.lr(1))
        ends.append([p.detach().clone() for p in steps.search.supernet.parameters()])
    for mine, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("before", [True, False])
def test_a_search_goes_on_with_the_other_optimisers(before):
    """From a checkpoint with a graph to none, and back."""
    first, second = (steps_of("nas_bench_201", {"patch_size": 4}, cuda_graph=graph) for graph in (before, not before))
    first.begin(0, 0)
    for _ in range(2):
        first.compute(True)
    second.search.restore(copy.deepcopy(first.search.state()))
    group = second.search.architecture_optimizer.param_groups[0]
    assert (group["capturable"], bool(group["fused"])) == (not before, not before)
    for steps in (first, second):
        steps.search.begin(1)
        steps.begin(0, 2)
        steps.compute(True)
    for mine, theirs in zip(first.search.supernet.parameters(), second.search.supernet.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
