"""Operations: sizes, padding, normalisation and noise."""

from itertools import product

import pytest
import torch
from published_cells import DARTS_V2
from torch import nn

from midas.networks.operations import OPERATIONS, FactorizedReduce, Noise, make
from midas.networks.pooling import average_backward, without_padding
from midas.networks.skeletons import build, set_drop_path
from midas.spaces.genotype import parse
from midas.supernet import operations


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
def test_operation_keeps_channels_and_divides_the_sides(name, stride):
    y = make(name, 6, stride)(torch.randn(2, 6, 8, 12))
    assert y.shape == (2, 6, 8 // stride, 12 // stride)


def test_average_pooling_leaves_padding_out():
    ones = torch.ones(1, 2, 4, 4)
    assert torch.equal(make("avg_pool_3x3", 2)(ones), ones)


def test_factorized_reduce_takes_every_second_pixel_and_its_diagonal_neighbour():
    reduction = FactorizedReduce(1, 2, norm=lambda channels: nn.Identity())
    for half in reduction.halves:
        nn.init.ones_(half.weight)
    x = torch.arange(-4.0, 12.0).view(1, 1, 4, 4)
    active = x.clamp(min=0)
    expected = torch.cat([active[:, :, ::2, ::2], active[:, :, 1::2, 1::2]], 1)
    assert torch.equal(reduction(x), expected)


def test_pooling_is_normalised_in_the_search_only():
    x = torch.randn(4, 3, 6, 6) + 5
    assert make("max_pool_3x3", 3, pool_norm=True)(x).mean().abs() < 1e-5
    assert make("max_pool_3x3", 3)(x).mean() > 5
    assert isinstance(make("skip_connect", 3, pool_norm=True), nn.Identity)


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("module", [Noise(1), Noise(2), operations.Noise(3, 1), operations.Noise(3, 2)], ids=str)
def test_a_seed_draws_the_same_noise_for_every_layout_and_type(module):
    drawn = []
    for layout, dtype in product(LAYOUTS, (torch.float32, torch.bfloat16, torch.float64)):
        x = torch.zeros(4, 6, 9, 8, dtype=dtype).to(memory_format=layout)
        torch.manual_seed(0)
        drawn.append(module(x, x, x) if isinstance(module, operations.Noise) else module(x))
        assert drawn[-1].dtype == dtype
        assert drawn[-1].is_contiguous(memory_format=layout)
    sides = [-(-9 // module.stride), 8 // module.stride]
    torch.manual_seed(0)
    expected = torch.randn(4, drawn[0].shape[1], *sides)
    assert drawn[0].shape[1] in (6, 18)
    for x in drawn:
        assert torch.equal(x, expected.to(x.dtype))


def test_a_found_cell_with_noise_gives_the_same_logits_in_every_layout():
    genotype, logits = parse(DARTS_V2.replace("skip_connect", "noise")), []
    for layout in LAYOUTS:
        torch.manual_seed(0)
        network = build(genotype, 16, 3, 10).to(memory_format=layout).eval()
        x = torch.randn(4, 3, 32, 32).to(memory_format=layout)
        torch.manual_seed(1)
        logits.append(network(x).detach())
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_a_seed_drops_the_same_paths_for_every_layout_and_type():
    network, dropped = build(parse(DARTS_V2), 16, 3, 10), []
    set_drop_path(network, 0.5)
    path = network.cells[0].drop_path.train()
    for layout, dtype in product(LAYOUTS, (torch.float32, torch.bfloat16)):
        torch.manual_seed(0)
        dropped.append(path(torch.ones(64, 2, 3, 3, dtype=dtype).to(memory_format=layout))[:, 0, 0, 0] == 0)
    assert 16 < dropped[0].sum() < 48
    assert all(torch.equal(x, dropped[0]) for x in dropped)


def test_unknown_operation_is_refused_with_those_allowed():
    with pytest.raises(
        ValueError, match=r"'conv_7x7' does not exist, did you mean sep_conv_5x5\? allowed: none, noise, "
    ):
        make("conv_7x7", 4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [2, 5, 8])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_of_average_pooling_without_padding_is_that_with_padding(stride, side, layout):
    like = torch.randn(2, 3, side, side + 1, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(2, 3, -(-side // stride), -(-(side + 1) // stride), dtype=torch.float64)
    found, expected = (backward(gradient, like, stride) for backward in (without_padding, average_backward))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stride", [1, 2])
def test_average_pooling_has_the_same_gradient_on_a_gpu(stride):
    x, pool = torch.randn(2, 3, 8, 8, dtype=torch.float64), make("avg_pool_3x3", 3, stride)
    found = []
    for device in ("cpu", "cuda"):
        image = x.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
        pool(image).square().sum().backward()
        found.append(image.grad.cpu())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
