"""Means over patches of activated projections of maps: the compiled kernels against torch, in values and gradients."""

import pytest
import torch
from kernel_checks import BOUNDS, close, make

from midas.supernet import projection
from midas.supernet.cpu import kernels as library
from midas.supernet.cpu import projection as on_cpu

pytestmark = pytest.mark.skipif(library.compiled() is None, reason="kernels.cpp can't be compiled here")


@pytest.fixture(params=BOUNDS, ids=str)
def dtype(request):
    return request.param


def made(dtype, channels, together, outputs, offset=True, side=8):
    """Maps (two of them parts of a wider one), weights and offsets."""
    wide = library.wide(make(dtype, 1, 1, 1, 1))
    merged = make(dtype, 5, 2 * channels, side, side)
    maps = [merged[:, :channels], merged[:, channels:]]
    maps += [make(dtype, 5, channels, side, side, seed=n) for n in range(together * outputs - 2)]
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(outputs, together, channels, channels, generator=generator, dtype=wide) / channels**0.5
    offsets = torch.randn(outputs, channels, generator=generator, dtype=wide) if offset else None
    return maps, weights, offsets


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 16, 20, 48])
@pytest.mark.parametrize(("together", "outputs"), [(1, 3), (2, 1)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 4), (8, 8)])
def test_values_and_gradients(dtype, channels, together, outputs, grid):
    maps, weights, offsets = made(dtype, channels, together, outputs, offset=together == 1)
    found, expected = [], []
    for values, fast in ((found, True), (expected, False)):
        leaves = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in maps]
        w, o = weights.clone().requires_grad_(), None if offsets is None else offsets.clone().requires_grad_()
        exact = leaves if fast else [x.to(w.dtype) for x in leaves]  # sums of bfloat16 as the kernels keep them
        rounded = w if fast else w.to(dtype).to(w.dtype) if channels % 16 == 0 else w
        out = projection.projected_patches(exact, rounded, o, "relu", grid, fast)
        given = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        inputs = [*leaves, w] if o is None else [*leaves, w, o]
        values += [out, *(g.to(out.dtype) for g in torch.autograd.grad((out * given).sum(), inputs))]
    if dtype != torch.bfloat16:
        return close(found, expected, dtype)
    for mine, theirs in zip(
        found, expected, strict=True
    ):  # where a sum rounds to another sign its pixel has another gradient
        assert (mine - theirs).norm() < 1e-2 * theirs.norm()


def test_what_needs_no_gradient_gets_none():
    maps, weights, offsets = made(torch.float32, 4, 1, 2)
    given = torch.ones(2, 5, 4, 4)
    what = maps, 1, weights.flatten(0, 1), offsets, (2, 2)
    for_maps, for_weights, for_offsets = on_cpu.project_backward(given, *what, [False, True], learn=False)
    assert for_maps[0] is None
    assert for_maps[1] is not None
    assert for_weights is for_offsets is None
    both = on_cpu.project_backward(given, *what, [True, True], learn=True)
    assert torch.equal(both[0][1], for_maps[1])


def test_the_number_of_threads_does_not_change_a_bit():
    maps, weights, offsets = made(torch.bfloat16, 16, 1, 3)
    given, found, before = torch.ones(3, 5, 4, 16), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            what = maps, 1, weights.flatten(0, 1), offsets, (2, 2)
            for_maps, *learned = on_cpu.project_backward(given, *what, [True] * 3, learn=True)
            found.append([on_cpu.project(*what), *for_maps, *learned])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


def test_a_pixel_that_is_not_a_number_stays_one():
    maps, weights, _ = made(torch.float32, 4, 1, 2)
    maps[0][0, 0, 0, 0] = torch.nan
    out = on_cpu.project(maps, 1, weights.flatten(0, 1), None, (1, 1))
    assert out[0, 0].isnan().all()
    assert out[1].isfinite().all()
