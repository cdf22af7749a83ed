"""The merged supernet against the plain one: outputs, weights and all gradients, in every way to compute them."""

from itertools import product

import pytest
import torch
from oracle import OPTIONS, check_against_oracle, still

from midas.config.method import Method
from midas.methods.composition import supernet_of
from midas.networks import operations
from midas.spaces import SPACES, CellSpec, Space
from midas.supernet import operations as of_supernet
from midas.supernet.cpu import kernels as library
from midas.supernet.cpu import sums as kernels


def mixed_space():
    """A space whose edges differ in their candidates, as those of S1 to S4 do."""
    edges = SPACES["darts"].cells["normal"].edges
    offers = [
        ("skip_connect", "dil_conv_3x3"),
        ("max_pool_3x3", "sep_conv_5x5", "skip_connect"),
        ("sep_conv_3x3", "none"),
    ]
    candidates = tuple(offers[i % 3] for i in range(len(edges)))
    operations = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3")
    darts = SPACES["darts"]
    cells = {k: CellSpec(s.inputs, s.edges, candidates, s.stride) for k, s in darts.cells.items()}
    return Space("mixed", "darts", cells, operations, 2, darts.skeleton, True, False, 3)


SPACES_UNDER_TEST = {**SPACES, "mixed": mixed_space()}
WAYS = {
    "fast": {"fast": True},
    "fast, merged": {"fast": True, "merged": True},
    "plain": {"fast": False},
    "plain, merged": {"fast": False, "merged": True},
}
"""How the supernet computes what is always the same."""


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("space", ["nas_bench_201", "darts", "mixed"])
def test_every_way_to_compute_equals_the_oracle(space, way, layout):
    check_against_oracle(SPACES_UNDER_TEST[space], {"patch_size": 4}, layout, **way)


FEW = ("static", "static, pairs", "attention", "pairs", "patch mixing")
"""Options that S1 to S3 are tested with, which differ from DARTS's space in their candidates alone."""
OF_CELLS = {"wide_all_skip": ("static", "attention", "patch mixing"), "single_cell_all_skip": ("static", "attention")}
"""Those of spaces with a skip beside every mixture, and with cells of another shape."""


def cases():
    """Each space with each option that it knows; those of the attention alone in NAS-Bench-201, and in DARTS or the mixed one."""
    shared = {"normalise", "activation", "learn_scale", "partial"}
    for (name, space), (place, (title, options)) in product(SPACES_UNDER_TEST.items(), enumerate(OPTIONS.items())):
        pairs = space.kept_edges is None and options.get("distribution") == "pairs"  # refused
        there = options.get("offer_none") and space.with_none() == space
        elsewhere = name in ("s1", "s2", "s3") and title not in FEW
        if space.own_networks:
            elsewhere = title not in OF_CELLS.get(name, ())
        elif shared & options.keys():
            elsewhere = name not in ("nas_bench_201", ("darts", "mixed")[place % 2])
        if not (pairs or there or elsewhere):
            yield pytest.param(space, options, id=f"{name}-{title}")


@pytest.mark.parametrize(("space", "options"), list(cases()))
def test_supernet_equals_the_oracle_in_outputs_weights_and_all_gradients(space, options, monkeypatch):
    for module in (operations, of_supernet):  # the same "noise" (S4) on both sides
        monkeypatch.setattr(module, "noise", still)
    check_against_oracle(space, options)


@pytest.mark.parametrize("merged", [False, True])
def test_a_seed_draws_the_same_noise_for_every_layout_of_the_maps(merged):
    passes = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        supernet = supernet_of(SPACES["s4"], Method(patch_size=4), 16, 3, 10, merged=merged).to(memory_format=layout)
        x = torch.randn(4, 3, 16, 16).to(memory_format=layout)
        torch.manual_seed(1)
        passes.append(supernet(x).detach())
        torch.manual_seed(2)
        other = supernet(x).detach()
    torch.testing.assert_close(*passes, rtol=1e-4, atol=1e-5)
    assert (other - passes[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": 4},
        {"weights": "static"},
        {"patch_size": 4, "detach": True},
        {"patch_size": 4, "normalise": "length"},
        {"patch_size": 4, "activation": "relu", "projected": "maps"},
    ],
    ids=str,
)
@pytest.mark.parametrize("merged", [False, True])
def test_maps_that_fill_registers_equal_the_oracle(options, merged, monkeypatch):
    """1x1 convolutions of 16 channels and more have a kernel of their own."""
    called = []
    monkeypatch.setattr(kernels, "pointwise", lambda *a, f=kernels.pointwise: called.append(1) or f(*a))
    check_against_oracle(SPACES["nas_bench_201"], options, channels=16, merged=merged)
    assert called or library.compiled() is None
