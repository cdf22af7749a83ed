"""Found cells as networks: how cells are joined, drop-path, auxiliary head, what is refused."""

import pytest
import torch
from published_cells import ALL_NONE, ALL_SKIP, DARTS_V2, NO_9930, meta
from torch import nn

from midas.networks.skeletons import SKELETONS, DartsCell, Nasbench201Cell, build, set_drop_path
from midas.spaces.genotype import Genotype, parse


def test_nas_bench_201_cell_sums_its_edges():
    x = torch.randn(2, 4, 8, 8)
    assert torch.allclose(Nasbench201Cell(parse(ALL_SKIP).cells["cell"], 4)(x), 4 * x)  # x, 2 x, then 1 + 1 + 2
    assert torch.equal(Nasbench201Cell(parse(ALL_NONE).cells["cell"], 4)(x), torch.zeros_like(x))


def skip_cell(probability=0.0):
    """A DARTS cell whose nodes are: the sum of both inputs, and pooled copies of the first input."""
    nodes = ((("skip_connect", 0), ("skip_connect", 1)), *[(("avg_pool_3x3", 0), ("none", 1))] * 3)
    cell = DartsCell(Genotype("darts", {"normal": nodes, "reduce": nodes}), "normal", (2, 2), 2, False)
    cell.preprocess = nn.ModuleList([nn.Identity(), nn.Identity()])
    set_drop_path(cell, probability)
    return cell


def test_darts_cell_puts_its_nodes_side_by_side():
    x, y = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
    out = skip_cell()(x, y)
    assert out.shape == (1, 8, 4, 4)
    assert torch.equal(out[:, :2], x + y)
    assert torch.equal(out[:, 2:], torch.ones(1, 6, 4, 4))


def test_drop_path_drops_whole_images_but_never_an_identity():
    torch.manual_seed(0)
    x = torch.ones(1000, 2, 2, 2)
    out = skip_cell(0.2)(x, x)
    assert torch.equal(out[:, :2], 2 * x)
    pooled = out[:, 2:4].flatten(1)
    kept = pooled[:, 0] > 0
    assert torch.equal(pooled, (kept / 0.8)[:, None].expand_as(pooled))
    assert 0.75 < kept.double().mean() < 0.85


def test_drop_path_acts_in_training_only():
    torch.manual_seed(0)
    network, x = build(parse(DARTS_V2), 4, 3, 10), torch.randn(4, 3, 32, 32)
    plain = network.eval()(x)
    set_drop_path(network, 0.5)
    assert torch.equal(network(x), plain)
    network.train()
    assert not torch.equal(network(x), network(x))
    set_drop_path(network, 0.0)
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(("imagenet", "side"), [(False, 32), (True, 224)])
def test_auxiliary_head_speaks_in_training_only(imagenet, side):
    network = meta(parse(DARTS_V2), 4, 8, 7, auxiliary=True, imagenet=imagenet)
    x = torch.empty(2, 3, side, side, device="meta")
    logits, auxiliary = network.forward_auxiliary(x)
    assert logits.shape == auxiliary.shape == network(x).shape == (2, 7)
    assert network.eval().forward_auxiliary(x)[1] is None


@pytest.mark.parametrize("text", [DARTS_V2, NO_9930])
def test_without_an_auxiliary_head_there_are_no_auxiliary_logits(text):
    network = build(parse(text), 4, 3, 5)
    logits, auxiliary = network.forward_auxiliary(torch.randn(2, 3, 16, 32))
    assert logits.shape == (2, 5)
    assert auxiliary is None


@pytest.mark.parametrize("text", [DARTS_V2, NO_9930])
def test_every_parameter_of_a_trained_network_gets_a_gradient(text):
    torch.manual_seed(0)
    network = build(parse(text), 4, 3, 5, auxiliary=True)
    logits, auxiliary = network.forward_auxiliary(torch.randn(4, 3, 32, 32))
    (logits.square().sum() + (0 if auxiliary is None else auxiliary.square().sum())).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_cells_of_a_darts_skeleton_are_asked_for_as_the_paper_says():
    asked = []

    def make_cell(kind, channels_in, channels, reduction_prev):
        asked.append((kind, channels_in, channels, reduction_prev))
        return nn.Identity()

    SKELETONS["darts"](make_cell, 16, 6, 10)
    assert asked == [
        ("normal", (48, 48), 16, False),
        ("normal", (48, 64), 16, False),
        ("reduce", (64, 64), 32, False),
        ("normal", (64, 128), 32, True),
        ("reduce", (128, 128), 64, False),
        ("normal", (128, 256), 64, True),
    ]


@pytest.mark.parametrize("family", SKELETONS)
def test_skeleton_makes_all_its_normalisation_itself_as_it_is_told(family):
    skeleton = SKELETONS[family](
        lambda *args: nn.Identity(), 4, 3, 10, norm=lambda channels: nn.BatchNorm2d(channels, track_running_stats=False)
    )
    norms = [module for module in skeleton.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.track_running_stats for norm in norms)


@pytest.mark.parametrize(
    ("genotype", "options", "message"),
    [
        (parse(DARTS_V2), {"cells": 2}, "cells: 2 is not allowed; darts needs at least 3"),
        (parse(NO_9930), {"imagenet": True}, "allowed: DARTS genotypes"),
        (parse(DARTS_V2), {"channels": 1, "imagenet": True}, "channels: 1 is not allowed"),
        (
            parse(NO_9930[: NO_9930.rindex("+")]),
            {},
            r"its nodes have \[1, 2\] edges; in nas_bench_201 they have \[1, 2, 3\]",
        ),
        (
            Genotype("nas_bench_201", {"cell": tuple((("jump", 0),) * k for k in (1, 2, 3))}),
            {},
            "operation 'jump' does not exist",
        ),
        (Genotype("darts", {"normal": (), "reduce": ()}), {}, r"normal cell: its nodes have \[\] edges"),
    ],
)
def test_network_that_does_not_exist_is_refused(genotype, options, message):
    with pytest.raises(ValueError, match=message):
        meta(genotype, **{"channels": 4, "cells": 3, "classes": 10} | options)
