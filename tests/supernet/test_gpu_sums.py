"""The Triton kernels against the same functions in torch, interpreted on the CPU; and compiled for a Hopper GPU, not run."""

import os
import subprocess
import sys
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")

from interpreted import interpreted
from kernel_checks import BOUNDS, close, make
from places import ROOT

from midas.supernet import sums

kernels = interpreted("midas.supernet.gpu.sums")

GRIDS = [None, (1, 1), (2, 4)]


def draw(dtype, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(torch.promote_types(dtype, torch.float32))


@pytest.fixture(params=BOUNDS, ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("channels", [1, 3, 20, 48])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("normalise", [True, False])
def test_enter(dtype, channels, grid, normalise):
    x = make(dtype, 3, channels, 8, 8)
    close(kernels.enter(x, grid, normalise), sums.enter(x, grid, normalise), dtype)


@pytest.mark.parametrize("grid", [None, (1, 1), (3, 1)])
def test_patches_are_cut_into_pieces_that_needn_t_be_equal(grid):
    x = make(torch.float64, 2, 48, 21, 19)
    close(kernels.enter(x, grid, True), sums.enter(x, grid, True), torch.float64)


def test_more_programs_than_are_added_up_at_once():
    x = make(torch.float64, 5, 20, 9, 7)
    with mock.patch.object(kernels, "_elements", return_value=512), mock.patch.object(kernels, "SUMMED", 128):
        close(kernels.enter(x, (3, 1), True), sums.enter(x, (3, 1), True), torch.float64)


def test_a_variance_that_is_small_beside_the_mean_keeps_its_digits():
    x = (make(torch.float32, 4, 16, 16, 16) + 3000).contiguous(memory_format=torch.channels_last)
    found = kernels.enter(x, None, True)
    torch.testing.assert_close(found.scale, sums.enter(x.double(), None, True).scale.float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("channels", [1, 3, 16, 20, 48])
@pytest.mark.parametrize("static", [True, False])
def test_mix(dtype, channels, static):
    maps = [make(dtype, 3, channels, 8, 6, seed=n) for n in range(5)]
    p, scales, shifts = (draw(dtype, *n, seed=9) for n in ((1 if static else 3, 5), (5, channels), (5, channels)))
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], dtype)
    gradient = make(dtype, 3, channels, 8, 6, seed=9)
    found, expected = (m.mix_backward(gradient, p, scales, shifts, maps) for m in (kernels, sums))
    assert found[0] is gradient
    close([found[0].to(p.dtype), *found[1:]], expected, dtype)


@pytest.mark.parametrize("count", [1, 35])
def test_any_number_of_maps_and_images_is_added_up(count):
    maps = [make(torch.float64, 5, 16, 17, 9, seed=n) for n in range(count)]
    p, scales, shifts = (draw(torch.float64, *n) for n in ((count, 5), (count, 16), (count, 16)))
    close([kernels.mix(p.t(), scales, shifts, maps)], [sums.mix(p.t(), scales, shifts, maps)], torch.float64)
    gradient = make(torch.float64, 5, 16, 17, 9, seed=99)
    with mock.patch.object(kernels, "SUMMED", 64):
        found = kernels.mix_backward(gradient, p.t(), scales, shifts, maps)
    close(found, sums.mix_backward(gradient, p.t(), scales, shifts, maps), torch.float64)


def parts_of(x, grid, normalise, width, terms=3, given=1, active=1, static=False, dtype=None):
    """A gradient of every kind, of maps of another type if one is named."""
    dtype, channels = dtype or x.dtype, x.shape[1]
    p = draw(x.dtype, 1 if static else len(x), 5).abs()
    firsts = [*range(0, channels, width), 0][:terms]  # some twice
    shape = x.shape[2:]
    return sums.Gradients(
        *(draw(x.dtype, channels, seed=n) if normalise else None for n in range(2)),
        draw(x.dtype, len(x), grid[0] * grid[1], channels) if grid else None,
        [sums.Term(f, make(dtype, len(x), width, *shape, seed=n), p[:, n]) for n, f in enumerate(firsts)],
        [make(dtype, *x.shape, seed=10 + n) for n in range(given)],
        [make(dtype, *x.shape, seed=20 + n) for n in range(active)],
    )


def leave_is_right(x, grid, normalise, parts):
    observed = sums.enter(x, grid, normalise)
    close([kernels.leave(x, observed, grid, parts)], [sums.leave(x, observed, grid, parts)], x.dtype)


@pytest.mark.parametrize("width", [1, 3, 16, 20])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("normalise", [True, False])
def test_leave(dtype, width, grid, normalise):
    x = make(dtype, 3, 3 * width, 8, 8)
    leave_is_right(x, grid, normalise, parts_of(x, grid, normalise, width, terms=4, static=width == 3))


@pytest.mark.parametrize("terms", [0, 1])
@pytest.mark.parametrize("given", [0, 2])
@pytest.mark.parametrize("active", [0, 2])
@pytest.mark.parametrize("normalise", [True, False])
def test_parts_that_are_missing(terms, given, active, normalise):
    x = make(torch.float64, 2, 16, 6, 6)
    parts = parts_of(x, (3, 2), normalise, 16, terms, given, active)
    leave_is_right(x, (3, 2), normalise, parts)
    leave_is_right(x, (3, 2), normalise, parts._replace(pooled=None))
    leave_is_right(x, None, normalise, parts._replace(pooled=None, scale=None))
    leave_is_right(x, (3, 2), normalise, parts._replace(shift=None))


def test_means_over_many_patches_are_added_up_by_several_programs():
    x = make(torch.float64, 5, 16, 16, 16)
    parts = parts_of(x, (16, 16), True, 16)
    with mock.patch.object(kernels, "_shares", wraps=kernels._shares) as shares:
        leave_is_right(x, (16, 16), True, parts)
        leave_is_right(x, (16, 16), True, parts._replace(pooled=draw(x.dtype, 16, 256, 5).permute(2, 1, 0)))
    assert shares.call_count == 2
    assert kernels._shares(parts.pooled, parts.pooled)[1] == 8


def test_gradients_of_another_type_than_the_map_are_read_as_they_lie():
    x = make(torch.bfloat16, 2, 32, 8, 8)
    leave_is_right(x, (2, 2), True, parts_of(x, (2, 2), True, 16, dtype=torch.float32))
    maps = [x[:, :16], make(torch.float32, 2, 16, 8, 8)]
    p, scales, shifts = draw(x.dtype, 2, 2), draw(x.dtype, 2, 16), draw(x.dtype, 2, 16)
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], x.dtype)
    gradient = make(torch.float32, 2, 16, 8, 8)
    found = kernels.mix_backward(gradient, p, scales, shifts, maps)
    assert found[0] is gradient
    close(found, sums.mix_backward(gradient, p, scales, shifts, maps), torch.bfloat16)


def test_any_layout_and_parts_of_wider_maps_are_read_right():
    whole = make(torch.float64, 3, 12, 8, 8)
    maps = [
        whole[:, 4:8],
        whole[:, 8:].contiguous(),
        make(torch.float64, 3, 4, 16, 16)[:, :, ::2, ::2],
        make(torch.float64, 6, 4, 8, 8)[::2],
        make(torch.float64, 3, 4, 9, 9)[:, :, 1:, 1:],
        torch.ones(1, dtype=torch.float64).expand(3, 4, 8, 8),
    ]
    p, scales, shifts = (draw(torch.float64, *n) for n in ((3, 6), (6, 4), (6, 4)))
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], torch.float64)
    parts = parts_of(maps[1], (2, 2), True, 4, terms=1)._replace(given=maps, active=maps[::-1])
    for x in maps:
        close(kernels.enter(x, (2, 2), True), sums.enter(x, (2, 2), True), torch.float64)
        term = sums.Term(0, x, p.t()[1:4, 0])
        leave_is_right(x, (2, 2), True, parts._replace(terms=[term], scale=scales[:, 0][:4]))
        found, expected = (m.mix_backward(x, p, scales, shifts, maps) for m in (kernels, sums))
        close(found, expected, torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 4, 4), (1, 16, 1, 5), (3, 16, 4, 1), (4, 16, 1, 1)])
def test_maps_of_a_single_pixel_row_or_channel(shape):
    maps = [torch.randn(shape, dtype=torch.float64) for _ in range(2)]
    p, scales, shifts = (draw(torch.float64, *n) for n in ((len(maps[0]), 2), (2, shape[1]), (2, shape[1])))
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], torch.float64)
    found, expected = (m.mix_backward(maps[0], p, scales, shifts, maps) for m in (kernels, sums))
    close(found, expected, torch.float64)
    close(kernels.enter(maps[0], (1, 1), True), sums.enter(maps[0], (1, 1), True), torch.float64)
    varies = maps[0].numel() > shape[1]  # a variance of 0 leaves few digits
    leave_is_right(maps[0], (1, 1), varies, parts_of(maps[0], (1, 1), varies, shape[1]))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_not_a_number_and_infinity_pass_through(dtype):
    x = make(dtype, 1, 4, 2, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = torch.nan, torch.inf
    one, zero = draw(dtype, 1, 4) * 0 + 1, draw(dtype, 1, 4) * 0
    torch.testing.assert_close(kernels.mix(one[:, :1], one, zero, [x]), x, equal_nan=True)
    parts = parts_of(x, None, False, 4, terms=0, given=1, active=1)
    parts.active[0][0, 2, 0, 0] = torch.inf
    found, expected = (m.leave(x, sums.enter(x, None, False), None, parts) for m in (kernels, sums))
    torch.testing.assert_close(found, expected, equal_nan=True)
    found, expected = (m.enter(x, (1, 2), True) for m in (kernels, sums))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.isfinite(), theirs.isfinite())


def test_what_is_usable():
    x = make(torch.float32, 2, 4, 4, 4)
    assert all(kernels.usable(x.to(dtype)) for dtype in BOUNDS)
    assert not kernels.usable(x.half())
    assert not kernels.usable(x.contiguous())
    assert kernels.usable(x.double().contiguous())
    assert not kernels.usable(x.to("meta"))


def launched(function, *args):
    """Names of the kernels that a function launches, which do nothing here."""
    names = []
    fake = {
        name: mock.MagicMock(**{"__getitem__.side_effect": lambda grid, name=name: names.append(name) or mock.Mock()})
        for name in ("enter", "conclude", "mix", "products", "gradients", "pooled_sums", "leave")
    }
    with mock.patch.multiple(kernels.sum_kernels, **fake):
        function(*args)
    return names


def test_launches_are_few():
    x = make(torch.bfloat16, 2, 32, 32, 32)
    p, scales = draw(x.dtype, 2, 35), draw(x.dtype, 35, 32)
    assert launched(kernels.enter, x, None, False) == []
    assert launched(kernels.enter, x, (8, 8), False) == ["enter"]
    assert launched(kernels.enter, x, (8, 8), True) == ["enter", "conclude"]
    assert launched(kernels.mix, p, scales, scales, [x] * 35) == ["mix"]
    assert launched(kernels.mix_backward, x, p, scales, scales, [x] * 35) == ["products", "gradients"]
    observed, parts = sums.enter(x, (8, 8), True), parts_of(x, (8, 8), True, 16, active=2, given=2)
    assert launched(kernels.leave, x, observed, (8, 8), parts) == ["pooled_sums", "leave"]
    assert launched(kernels.leave, x, observed, (8, 8), parts._replace(pooled=None)) == ["leave"]


COMPILED = """
import re, subprocess, sys, tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import torch, triton
from triton.backends.compiler import GPUTarget
from midas.supernet import sums
from midas.supernet.gpu import sum_kernels, sums as kernels

# a GPU as far as compiling goes
target = GPUTarget("cuda", 90, 32)
triton.runtime.driver.set_active(SimpleNamespace(
    get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target))
tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"

def compiled(kernel, *args, grid, warmup, **kwargs):
    found = triton.JITFunction.run(kernel, *args, grid=grid, warmup=True, **kwargs)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        used = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    print(kernel.fn.__name__, *re.search(r"REG:(\\d+) STACK:(\\d+)", used).groups())

for kernel in vars(sum_kernels).values():
    if isinstance(kernel, triton.JITFunction):
        kernel.run = partial(compiled, kernel)

def maps(number, dtype, *shape):
    return [torch.empty(shape, dtype=dtype, memory_format=torch.channels_last) for _ in range(number)]

for channels, side in ((16, 32), (64, 8)):
    for dtype in (torch.bfloat16, torch.float32):
        x, = maps(1, dtype, 64, 3 * channels, side, side)
        gradient, *others = maps(3, dtype, 64, channels, side, side)
        p, scales = torch.empty(64, 35), torch.empty(35, channels)
        for grid in (None, (side // 4, side // 4)):
            observed = kernels.enter(x, grid, True)
            terms = [sums.Term(n * channels, gradient, p[:, n]) for n in range(3)]
            kernels.leave(x, observed, grid, sums.Gradients(*observed[1:], terms, [], []))
        kernels.leave(gradient, sums.Observed(None, None, None, None), None,
                      sums.Gradients(None, None, None, terms[:1], others, others))
        for count in (8, 35) if channels == 16 else (8,):
            sliced = [x[:, :channels] for _ in range(count)]
            kernels.mix(p[:, :count], scales[:count], scales[:count], sliced)
            kernels.mix_backward(gradient, p[:, :count], scales[:count], scales[:count], sliced)
"""


def test_kernels_compile_for_a_hopper_gpu_and_keep_to_registers(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in lines} == {
        *("enter", "conclude", "mix", "products", "gradients", "pooled_sums", "leave")
    }
    assert all(stack == "0" for *_, stack in lines), done.stdout
