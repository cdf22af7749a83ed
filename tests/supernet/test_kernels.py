"""The compiled kernels against the same functions in torch: values, layouts, types, threads; and what comes without compiler."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import BOUNDS, as_factor, close, make

from midas.supernet import sums
from midas.supernet.cpu import attention as cpu_attention
from midas.supernet.cpu import kernels as library
from midas.supernet.cpu import sums as kernels
from midas.supernet.node import Node

pytestmark = pytest.mark.skipif(library.compiled() is None, reason="kernels.cpp can't be compiled here")


@pytest.fixture(params=BOUNDS, ids=str)
def dtype(request):
    return request.param


CHANNELS = [1, 3, 4, 16, 20, 48]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("grid", [None, (1, 1), (2, 4)])
@pytest.mark.parametrize("normalise", [True, False])
def test_enter(dtype, channels, grid, normalise):
    x = make(dtype, 3, channels, 8, 8)
    close(kernels.enter(x, grid, normalise), sums.enter(x, grid, normalise), dtype)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(CHANNELS), st.integers(1, 3), st.sampled_from([None, (1, 1), (2, 4)]), st.booleans(), st.booleans(),
    st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip
def test_leave(channels, parts, grid, normalise, static, given_count, active_count):
    dtype, width = torch.float64, channels * parts
    x = make(dtype, 3, width, 8, 8)
    observed = sums.enter(x, grid, normalise)
    wide = [torch.randn(width, dtype=dtype) if normalise else None for _ in range(2)]
    pooled = torch.randn(3, grid[0] * grid[1], width, dtype=dtype) if grid else None
    p = torch.rand(1 if static else 3, 5, dtype=dtype)
    firsts = [*range(0, width, channels), 0]  # two terms of the first channels
    terms = [sums.Term(f, make(dtype, 3, channels, 8, 8, seed=f), p[:, n % 5]) for n, f in enumerate(firsts)]
    given_maps = [make(dtype, 3, width, 8, 8, seed=10 + n) for n in range(given_count)]
    active = [make(dtype, 3, width, 8, 8, seed=20 + n) for n in range(active_count)]
    gradients = sums.Gradients(*wide, pooled, terms, given_maps, active)
    close([kernels.leave(x, observed, grid, gradients)], [sums.leave(x, observed, grid, gradients)], dtype)


def pointwise_and_gradients(functions, x, weight, grid, gradient, p, pooled):
    """Map, statistics, and gradients of map and weight; by the kernel, or (with None) by torch."""
    scale, shift = torch.linspace(-1, 1, len(weight), dtype=p.dtype), torch.linspace(0, 1, len(weight), dtype=p.dtype)
    terms = [sums.Term(first, gradient, p[:, 0]) for first in range(0, len(weight), gradient.shape[1])]
    parts = sums.Gradients(scale, shift, pooled, terms, [make(x.dtype, len(x), len(weight), *x.shape[2:], seed=3)], [])
    if functions is kernels:
        out, observed = kernels.pointwise(x, weight, grid)
        return out, *observed, *kernels.pointwise_backward(x, weight, out, observed, grid, parts, learn=True)
    out = torch.nn.functional.conv2d(x, weight)
    observed = sums.enter(out, grid, True)
    gradient = sums.leave(out, observed, grid, parts).to(p.dtype)
    for_x = torch.nn.functional.conv_transpose2d(gradient, weight.to(p.dtype)).to(x.dtype)
    for_weight = torch.einsum("bohw,bchw->oc", gradient, x.to(p.dtype))[..., None, None]
    return out, *observed, for_x, for_weight


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("channels", [16, 32, 48, 64])
@pytest.mark.parametrize(("side", "grid"), [(8, (2, 4)), (8, None), (5, (1, 1))])
def test_pointwise(dtype, channels, parts, side, grid):
    wider = make(dtype, 6, channels + 16, side, side)
    if not kernels.usable_pointwise(wider):
        pytest.skip("this processor has no products of bfloat16")
    wide = library.wide(wider)
    weight = make(dtype, parts * channels, channels, 1, 1, seed=1) / channels**0.5
    p, gradient = torch.rand(6, 1, dtype=wide), make(dtype, 6, channels, side, side, seed=2)
    pooled = torch.randn(6, grid[0] * grid[1], parts * channels, dtype=wide) if grid else None
    for x in (wider[:, 16:], wider[:, 16:].contiguous(), wider[:, 16:].contiguous(memory_format=torch.channels_last)):
        found, expected = (pointwise_and_gradients(f, x, weight, grid, gradient, p, pooled) for f in (kernels, None))
        *found, for_weight = found
        *expected, wanted = expected
        close(found, expected, dtype)
        # sums over all pixels, of gradients that are rounded
        torch.testing.assert_close(for_weight / wanted.std(), wanted / wanted.std(), rtol=0, atol=BOUNDS[dtype])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("static", [True, False])
def test_mix(dtype, channels, static):
    wide = library.wide(make(dtype, 1, 1, 1, 1))
    maps = [make(dtype, 3, channels, 8, 6, seed=n) for n in range(5)]
    p, scales, shifts = (torch.rand(n, dtype=wide) for n in ((1 if static else 3, 5), (5, channels), (5, channels)))
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], dtype)
    gradient = make(dtype, 3, channels, 8, 6, seed=9)
    found, expected = (m.mix_backward(gradient, p, scales, shifts, maps) for m in (kernels, sums))
    close([found[0].to(wide), *found[1:]], expected, dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("channels", CHANNELS)
def test_average(dtype, channels, side, stride):
    x = make(dtype, 3, channels, side, side)
    mine, theirs = kernels.average(x, stride), sums.average(x, stride)
    close([mine], [theirs], dtype)
    gradient = make(dtype, *theirs.shape)
    found, expected = (m.average_backward(gradient, x, stride) for m in (kernels, sums))
    close([found], [expected], dtype)


def node(channels, entries, candidates, dtype=torch.float64, seed=0):
    """A node with two inputs and its candidates on a grid of 2x3 patches, three images."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=dtype)  # noqa: E731
    rows = [draw(3, 6, channels) for _ in range(2 + candidates)]
    places = max(place for place, *_ in entries) + 2  # nothing is offered at the last
    return Node(rows[:2], rows[2:], entries, places, draw(channels, 2 * channels), draw(1, channels, channels), 0.7)


ENTRIES = {
    "edges": [(0, 0, -1), (1, 0, 0), (3, 0, 1), (4, 1, -1), (5, 1, 2)],
    "one set": [(0, 0, -1), (1, 0, 0), (3, 0, 1), (4, 0, -1), (5, 0, 2)],
    "no none": [(0, 0, 0), (1, 0, 1), (2, 1, 2)],
}


def attention_in_torch(query, key, *rows, like):
    """p, share and means of a node, written out."""
    inputs, candidates = torch.cat(rows[:2], 2), rows[2:]
    q = as_factor(torch.einsum("bre,de->brd", inputs, query), like)
    keys = [as_factor(torch.einsum("brc,dc->brd", x, key[0]), like) for x in candidates]
    p = query.new_zeros(3, 6, like.places)
    for number in {number for _, number, _ in like.entries}:
        own = [(place, k) for place, s, k in like.entries if s == number]
        logits = [like.scale * (q * keys[k]).sum(2) if k >= 0 else query.new_zeros(3, 6) for _, k in own]
        p[:, :, [place for place, _ in own]] = torch.stack(logits, 2).softmax(2)
    p = p.mean(1)
    order = sorted((k, place) for place, _, k in like.entries if k >= 0)
    share = p[:, [place for _, place in order]]
    return p, share, torch.einsum("bk,bkrc->brc", share, torch.stack(candidates, 1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("normalise", ["none", "length", "layer_norm"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES)
def test_attention_and_its_gradients(channels, entries, normalise, relu):
    what = node(channels, entries, 3)._replace(normalise=normalise, relu=relu)
    leaves = [x.requires_grad_() for x in (what.query, what.key, *what.inputs, *what.candidates)]
    expected = attention_in_torch(*leaves, like=what)
    attended, share, means = cpu_attention.attend(what)
    close([attended.p, share, means, attended.weights.mean(1)], [*expected, expected[0]], torch.float64)
    weights = [torch.randn_like(x) for x in expected]
    for asked in ([0, 1, 2], [1], [2]):
        given = [w if n in asked else None for n, w in enumerate(weights)]
        loss = sum((w * x).sum() for w, x in zip(given, expected, strict=True) if w is not None)
        for_inputs, for_candidates, *learned = cpu_attention.attend_backward(what, attended, *given, learn=True)
        wanted = torch.autograd.grad(loss, leaves, retain_graph=True)
        close([*learned, *for_inputs, *for_candidates], wanted, torch.float64)
    assert cpu_attention.attend_backward(what, attended, *weights, learn=False)[2:] == (None, None)


def test_attention_of_large_logits_is_finite():
    what = node(4, ENTRIES["edges"], 3, torch.float32)
    attended, _, _ = cpu_attention.attend(what._replace(scale=1e6))
    assert attended.p.isfinite().all()
    torch.testing.assert_close(attended.p.sum(1), torch.full((3,), 2.0))


def test_any_layout_and_parts_of_wider_maps_are_read_right():
    whole = make(torch.float64, 3, 12, 8, 8)
    maps = [
        whole[:, 4:8],
        whole[:, 8:].contiguous(),
        make(torch.float64, 3, 4, 16, 16)[:, :, ::2, ::2],
        make(torch.float64, 3, 4, 8, 8),
    ]
    p, scales, shifts = (torch.rand(n, dtype=torch.float64) for n in ((3, 4), (4, 4), (4, 4)))
    close([kernels.mix(p, scales, shifts, maps)], [sums.mix(p, scales, shifts, maps)], torch.float64)


def test_not_a_number_and_infinity_pass_through(dtype):
    x = make(dtype, 1, 4, 2, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = torch.nan, torch.inf
    wide = library.wide(x)
    out = kernels.mix(torch.ones(1, 1, dtype=wide), torch.ones(1, 4, dtype=wide), torch.zeros(1, 4, dtype=wide), [x])
    torch.testing.assert_close(out, x, equal_nan=True)


def test_the_number_of_threads_does_not_change_a_bit():
    x, g = make(torch.float32, 7, 16, 8, 8), make(torch.float32, 7, 16, 8, 8, seed=1)
    p, scales, shifts = torch.rand(7, 1), torch.rand(1, 16), torch.rand(1, 16)
    weight = make(torch.float32, 16, 16, 1, 1)
    what = node(16, ENTRIES["edges"], 3, torch.float32)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            attended, share, means = cpu_attention.attend(what)
            gradients = cpu_attention.attend_backward(what, attended, None, share, means, learn=True)
            out, observed = kernels.pointwise(x, weight, (2, 2))
            parts = sums.Gradients(p[0].expand(16), None, None, [sums.Term(0, g, p[:, 0])], [], [])
            found.append(
                [out, *observed, *kernels.pointwise_backward(x, weight, out, observed, (2, 2), parts, learn=True)]
            )
            found[-1].extend([*kernels.enter(x, (2, 2), True), *kernels.mix_backward(g, p, scales, shifts, [x])])
            found[-1] += [*attended[:3], share, means, *gradients]
            one_by_one = what._replace(normalise="length", relu=True)
            attended, share, means = cpu_attention.attend(one_by_one)
            gradients = cpu_attention.attend_backward(one_by_one, attended, None, share, means, learn=True)
            found[-1] += [*attended, share, means, *gradients]
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_one_line_says_so_and_torch_does_the_work(compiler, tmp_path):
    code = (
        "import torch; from midas.supernet.cpu import sums; "
        "x = torch.zeros(2, 4, 8, 8).contiguous(memory_format=torch.channels_last); print(sums.usable(x), sums.usable(x))"
    )
    environment = {"PATH": "/usr/bin:/bin", "CXX": compiler, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "False False\n"
    assert done.stderr.count("kernels.cpp can't be compiled") == 1
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("")
    code = "from midas.supernet.cpu import kernels; print(kernels.compiled() is not None)"
    environment = {
        "PATH": "/usr/bin:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "file"),
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "True\n", done.stderr
