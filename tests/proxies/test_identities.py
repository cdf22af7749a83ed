"""What must hold of the scores whatever the numbers: equal copies, conserved flow, cells that are cut apart, every space."""

import pytest
import torch
from torch import nn

from midas.networks.operations import ReLUConvBN
from midas.proxies.classic import parameters, synflow_scores
from midas.proxies.networks import make_network, probe_by_stages, reductions
from midas.proxies.probing import Probe, layers_of
from midas.proxies.robust import Constants, attacked_down, attacked_up, code_factors, cosines, paper_factors, uphill
from midas.proxies.scoring import SCORES, Batch, scores
from midas.spaces import SPACES
from midas.spaces.genotype import Genotype, parse
from midas.spaces.nas_bench_201 import EDGES

NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
POOLS = "|avg_pool_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"


def batch(side=16, images=4):
    draw = torch.Generator().manual_seed(0)
    return Batch(torch.randn(images, 3, side, side, generator=draw, dtype=torch.float64), torch.arange(images) % 3)


def test_equal_copies_are_fully_consistent():
    draw = torch.Generator().manual_seed(0)
    weight, grad, maps = (
        torch.rand(size, generator=draw, dtype=torch.float64) for size in ((4, 3, 3, 3), (4, 3, 3, 3), (2, 5, 6, 6))
    )
    found = code_factors((weight, weight), (grad, grad), (maps, maps))
    assert found.parameter == pytest.approx(2 * weight.numel() / 4)
    assert found.gradient == pytest.approx(weight.numel() / 4)
    assert found.feature == pytest.approx(2 * maps.numel() / 2)
    paper = paper_factors((weight, weight), (grad, grad), (maps, maps), 0.001)
    assert (paper.parameter, paper.gradient, paper.feature) == pytest.approx((2, 1, 2))


def test_opposite_copies_are_not_consistent_at_all():
    maps = torch.ones(2, 5, dtype=torch.float64)
    assert float((1 + cosines(maps, -maps)).sum()) == pytest.approx(0)
    assert code_factors((maps, maps), (maps, -maps), (maps, maps)).gradient == pytest.approx(5)  # absolute values


def test_steps_have_the_length_and_direction_that_is_said():
    weight, grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -2.0]])
    torch.testing.assert_close(uphill(weight, grad, 2), torch.tensor([[3.0, -6.0]]))
    torch.testing.assert_close(uphill(weight, torch.zeros(1, 2), 2), weight)
    x, slope = torch.tensor([-1.0, 0.5, 0.005, 2.0]), torch.tensor([1.0, 1.0, 1.0, -1.0])
    torch.testing.assert_close(attacked_down(x, slope, 0.01), torch.tensor([0.0, 0.49, 0.0, 1.0]))
    torch.testing.assert_close(attacked_up(x, slope, 0.01), torch.tensor([-0.99, 0.51, 0.015, 1.99]))


def test_synflow_is_conserved_along_a_chain_without_biases():
    layers = [nn.Conv2d(3, 5, 3, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(5, 4, 3, 2, 1, bias=False), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3, bias=False))
    first, *others = synflow_scores(network, (8, 8)).values()
    assert others == [pytest.approx(first, rel=1e-12)] * 2


def genotype_of(name):
    """A cell of a space: in turn every operation that it offers."""
    space, cells = SPACES[name], {}
    if space.family == "nas_bench_201":
        operations = space.operations
        text = [f"{operations[i % 4 + 1]}~{s}" for i, (s, _) in enumerate(EDGES)]
        return parse(f"|{text[0]}|+|{text[1]}|{text[2]}|+|{text[3]}|{text[4]}|{text[5]}|")
    for kind, spec in space.cells.items():
        nodes = []
        for place, node in enumerate(spec.nodes):
            kept = spec.incoming(node)[: space.kept_edges]
            nodes.append(tuple((spec.candidates[e][place % len(spec.candidates[e])], spec.edges[e][0]) for e in kept))
        cells[kind] = tuple(nodes)
    return Genotype(space.networks, cells)


@pytest.mark.parametrize("name", SPACES)
def test_a_cell_of_any_space_has_all_scores_and_the_same_again(name):
    cells = SPACES[name].min_cells
    found = [scores(genotype_of(name), batch(), 3, 2, cells, seed) for seed in (0, 0, 1)]
    assert list(found[0]) == list(SCORES)
    assert all(value == value and value >= 0 for value in found[0].values())
    assert found[0] == found[1]
    assert found[0]["croze_code"] != found[2]["croze_code"]
    assert found[0]["params"] == found[2]["params"]


@pytest.mark.parametrize("cell", [NONE, POOLS])
def test_a_cell_that_is_cut_apart_or_has_no_weights_has_scores(cell):
    found = scores(parse(cell), batch(), 3, 2, 1, 0)
    assert all(value == value for value in found.values())


def test_the_code_variant_grows_with_the_number_of_weights():
    small, large = (scores(parse(cell), batch(), 3, 2, 1, 0) for cell in (POOLS, CONVOLUTIONS))
    assert large["croze_code"] > 2 * small["croze_code"]


@pytest.mark.parametrize("norms", ["all", "reductions", "none"])
def test_normalisation_is_where_it_is_said_to_be(norms):
    genotype = parse(CONVOLUTIONS)
    network = make_network(genotype, 4, 2, 3, norms)
    halving = reductions(genotype, 2)
    assert halving == [2, 5]
    for place, cell in enumerate(network.cells):
        norm = [m for m in cell.modules() if isinstance(m, nn.BatchNorm2d)]
        assert bool(norm) == (norms == "all" or (norms == "reductions" and place in halving))
        biased = [m.bias is not None for m in cell.modules() if isinstance(m, nn.Conv2d)]
        assert set(biased) == {norms != "all" and place not in halving}
    outside = [*network.stem.modules(), *network.head.modules()]
    assert any(isinstance(m, nn.BatchNorm2d) for m in outside) == (norms == "all")


def test_without_normalisation_a_biased_convolution_is_all_that_is_left():
    network = make_network(parse(CONVOLUTIONS), 4, 1, 3, "none")
    edges = [m for m in network.modules() if isinstance(m, ReLUConvBN)]
    assert edges
    x = torch.randn(2, 4, 8, 8)
    first = next(m for m in edges if m[1].in_channels == 4)
    torch.testing.assert_close(first(x), first[1](x.relu()))


def test_every_layer_has_a_feature_that_the_network_gives():
    genotype = parse(CONVOLUTIONS)
    network = make_network(genotype, 2, 5, 3, "reductions")
    probe = probe_by_stages(genotype, network, 5)
    assert isinstance(probe, Probe)
    assert set(probe.feature_of) == set(layers_of(network))
    by_cell = [
        {probe.feature_of[layer] for layer in probe.layers() if layer.startswith(f"cells.{p}.")} for p in range(17)
    ]
    first, second, last = [{"stem"}] * 4, [{"cells.5"}] * 4, [{"cells.11"}] * 4
    halves = [[{name}] * 2 for name in ("cells.5", "cells.11")]  # the last cell of a stage, and the reduction behind it
    assert by_cell == [*first, *halves[0], *second, *halves[1], *last, {"head.1"}]
    assert probe.feature_of["head.4"] == "head.2"


def test_parameters_are_those_of_the_benchmark():
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    assert parameters(make_network(parse(best), 16, 5, 10, "all")) == 1_288_506
    assert Constants() == Constants(2.0, 0.01, 0.001)
