"""The attention's Triton kernels: interpreted, against torch and the kernels of a CPU; and compiled for a GPU, without one."""

import importlib
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

from interpreted import interpreted  # noqa: E402
from kernel_checks import as_factor  # noqa: E402
from places import HELPERS, ROOT  # noqa: E402

from midas.methods.distributions import pair_softmax  # noqa: E402
from midas.supernet.cpu import attention as on_cpu  # noqa: E402
from midas.supernet.cpu import kernels  # noqa: E402
from midas.supernet.node import Node  # noqa: E402

BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-4}
NAME = "midas.supernet.gpu.attention"
attention = importlib.import_module(NAME) if __name__ == "__main__" else interpreted(NAME)


@pytest.fixture(params=BOUNDS, ids=str)
def dtype(request):
    return request.param


def close(found, expected, dtype=torch.float64):
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, theirs, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])


ENTRIES = {
    "edges": [(0, 0, -1), (1, 0, 0), (3, 0, 1), (4, 1, -1), (5, 1, 2), (7, 3, 3), (8, 3, -1)],
    "one set": [(0, 0, -1), (1, 0, 0), (3, 0, 1), (4, 0, -1), (5, 0, 2), (6, 0, 3)],
    "no none": [(0, 0, 0), (1, 0, 1), (2, 1, 2), (3, 2, 3)],
}


HOW = [(normalise, relu) for normalise in ("none", "length", "layer_norm") for relu in (False, True)]


def make(channels, entries, patches=6, dtype=torch.float64, seed=0, spread=1.0, how=("none", False)):
    """A node of two images with three inputs and its candidates; some are slices of wider maps, one occurs twice."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=dtype)  # noqa: E731
    merged = draw(2, patches, 3 * channels)
    shared = draw(2, patches, channels)
    inputs = [draw(2, patches, channels), merged[..., 2 * channels :], draw(patches, 2, channels).transpose(0, 1)]
    candidates = [shared, merged[..., :channels], merged[..., channels : 2 * channels], shared]
    many = sum(k >= 0 for *_, k in entries)
    candidates += [draw(2, patches, channels) for _ in range(many - 4)]
    query, key = draw(channels, 3 * channels), draw(1, channels, channels)
    places = max(place for place, *_ in entries) + 2  # nothing is offered at the last
    return Node(inputs, candidates[:many], entries, places, query, key, spread / channels, *how)


def in_torch(query, key, *rows, like, pairs=False):
    """p, share, means and pi of a node, written out."""
    inputs, candidates = torch.cat(rows[:3], 2), rows[3:]
    q, keys = as_factor(inputs @ query.mT, like) * like.scale, [as_factor(x @ key[0].mT, like) for x in candidates]
    sets = sorted({number for _, number, _ in like.entries})
    width = max(sum(number == s for _, number, _ in like.entries) for s in sets)
    logits = q.new_full((*q.shape[:2], len(sets), width), -torch.inf)
    slots = {}
    for place, number, k in like.entries:
        at = sets.index(number), sum(s == number for _, s, _ in list(slots.values()))
        slots[at] = (place, number, k)
        logits[:, :, *at] = (q * keys[k]).sum(2) if k >= 0 else 0
    found, pi = pair_softmax(logits) if pairs else (logits.softmax(3), None)
    weights = q.new_zeros(*q.shape[:2], like.places)
    for at, (place, *_) in slots.items():
        weights[:, :, place] = found[:, :, *at]
    p = weights.mean(1)
    share = p[:, [place for _, place in sorted((k, place) for place, _, k in like.entries if k >= 0)]]
    means = torch.einsum("bk,bkrc->brc", share, torch.stack(candidates, 1))
    return p, share, means, pi.mean(1) if pairs else None


def learnable(what):
    """The node with leaves of its own in place of tensors that share memory, and these in the order of gradients."""
    return [x.detach().clone().requires_grad_() for x in (what.query, what.key, *what.inputs, *what.candidates)]


def check(what, dtype, pairs):
    """Values and gradients of a node, for gradients of all that is found and of some."""
    leaves = learnable(what)
    *expected, pi = in_torch(*leaves, like=what, pairs=pairs)
    attended, share, means, *more = (attention.attend_pairs if pairs else attention.attend)(what)
    backward = partial(attention.attend_pairs_backward, each=more[1]) if pairs else attention.attend_backward
    close([attended.p, share, means, attended.weights.mean(1)], [*expected, expected[0]], dtype)
    close(more[:1], [pi] if pairs else [], dtype)
    assert not attended.weights[..., -1].any()
    weights = [torch.randn(x.shape, dtype=dtype) for x in expected]
    for asked in ([0, 1, 2], [1], [2]) if what.plain else ([0, 1, 2], [1]):
        given = {name: weights[n] if n in asked else None for n, name in enumerate(("for_p", "for_share", "for_means"))}
        loss = sum((weights[n] * expected[n]).sum() for n in asked)
        for_inputs, for_candidates, *learned = backward(node=what, attended=attended, **given, learn=True)
        wanted = torch.autograd.grad(loss, leaves, retain_graph=True)
        close([*learned, *for_inputs, *for_candidates], wanted, dtype)
    assert backward(node=what, attended=attended, **given, learn=False)[2:] == (None, None)


def test_what_is_no_number_stays_so_through_a_relu():
    what = make(4, ENTRIES["edges"])._replace(relu=True)
    what.inputs[0][0, 0, 0] = torch.nan
    for functions in (attention, on_cpu):
        attended, _, _ = functions.attend(what)
        assert attended.p[0].isnan().any()
        assert attended.p[1].isfinite().all()


@pytest.mark.parametrize("channels", [1, 20])
@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES)
def test_attention_and_its_gradients(channels, entries, dtype):
    check(make(channels, entries, dtype=dtype), dtype, pairs=False)


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize(
    "entries", [ENTRIES["edges"], ENTRIES["no none"], [(0, 0, 0), (1, 0, 1), (2, 1, 2), (3, 1, 3)]]
)
def test_weights_of_pairs_and_their_gradients(channels, entries, dtype):
    check(make(channels, entries, dtype=dtype), dtype, pairs=True)


@pytest.mark.parametrize("how", HOW[1:], ids=str)
@pytest.mark.parametrize(
    ("channels", "pairs", "dtype"),
    [(3, False, torch.float64), (20, True, torch.float64), (6, True, torch.float32), (20, False, torch.float32)],
)
def test_keys_projected_one_by_one_and_their_gradients(channels, pairs, dtype, how):
    check(make(channels, ENTRIES["edges"], 3, dtype, how=how), dtype, pairs)


@pytest.mark.parametrize("how", HOW[1:], ids=str)
def test_keys_of_no_length_and_of_too_little(how):
    what = make(5, ENTRIES["edges"], how=how)
    for b, r, length in ((0, 1, 0), (1, 2, 1e-9), (1, 3, 1e-7)):
        for x in (what.candidates[1], what.inputs[0], what.inputs[1], what.inputs[2]):
            x[b, r] *= length
    check(what, torch.float64, pairs=False)


@pytest.mark.parametrize(
    ("channels", "patches", "pairs"), [(16, 1, True), (32, 4, False), (40, 40, True), (70, 18, False)]
)
def test_any_number_of_patches_and_channels(channels, patches, pairs):
    many = [
        (7 * e + o, e, 6 * e + o - 1 if o else -1) for e in range(3) for o in range(7)
    ]  # more than are read at a time
    check(make(channels, many, patches), torch.float64, pairs)


@pytest.mark.parametrize(
    ("channels", "patches", "pairs", "how"),
    [(1, 1, False, HOW[4]), (32, 4, False, HOW[5]), (40, 40, True, HOW[3]), (70, 18, False, HOW[4])],
    ids=str,
)
def test_keys_projected_one_by_one_of_any_number(channels, patches, pairs, how):
    check(make(channels, ENTRIES["no none"], patches, how=how), torch.float64, pairs)


@pytest.mark.skipif(kernels.compiled() is None, reason="kernels.cpp can't be compiled here")
@pytest.mark.parametrize("how", HOW, ids=str)
def test_a_cpu_keeps_the_same(how):
    what = make(16, ENTRIES["edges"], how=how)
    (mine, *found), (theirs, *expected) = attention.attend(what), on_cpu.attend(what)
    close([*mine, *found], [*theirs, *expected])
    close(attention.attend_backward(what, theirs, *mine[1:2], *found, learn=True),
          on_cpu.attend_backward(what, theirs, *mine[1:2], *found, learn=True))  # fmt: skip


@pytest.mark.parametrize("spread", [1e6, 1e30])
def test_large_logits_are_finite(spread):
    what = make(4, ENTRIES["edges"], dtype=torch.float32, spread=spread)
    attended, share, means = attention.attend(what)
    assert all(x.isfinite().all() for x in attention.attend_backward(what, attended, None, share, means, learn=True))
    torch.testing.assert_close(attended.p.sum(1), torch.full((2,), 3.0))
    attended, share, means, pi, each = attention.attend_pairs(what)
    assert all(
        x.isfinite().all() for x in attention.attend_pairs_backward(what, attended, each, None, share, means, True)
    )
    torch.testing.assert_close(attended.p.sum(1), torch.full((2,), 2.0))
    torch.testing.assert_close(pi.sum(1), torch.ones(2))


def test_which_rows_are_taken():
    x = torch.zeros(2, 3, 4)
    assert attention.usable_rows(x, x[..., 1:])
    assert attention.usable_rows(x.double())
    assert not attention.usable_rows(x, x.double())
    assert not attention.usable_rows(x, x.mT)
    assert not attention.usable_rows(x.bfloat16())
    assert not attention.usable_rows(x.to("meta"))


def test_kernels_compile_for_a_gpu_and_keep_what_they_need_in_registers(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *HELPERS)))}
    command = [sys.executable, "-W", "ignore", __file__, str(tmp_path / "cubin")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    stacks = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert len(stacks) == 15
    assert max(map(int, stacks.values())) <= 64, done.stdout


class Recorder:
    """Stands for a kernel and keeps what it is called with."""

    def __init__(self, kernel):
        self.kernel, self.values = kernel, None

    def __getitem__(self, grid):
        return self

    def __call__(self, *values, **options):
        self.options = {key: options.pop(key) for key in list(options) if key not in self.kernel.arg_names}
        self.values = dict(zip(self.kernel.arg_names, values, strict=False)) | options


def type_of(value):
    if isinstance(value, torch.Tensor):
        return {torch.float32: "*fp32", torch.float64: "*fp64"}[value.dtype]
    return "i32" if isinstance(value, int) else "constexpr"


def compiled(recorder):
    """The binary for an H100 of a kernel for the arguments of its last call, all addresses and steps multiples of 16."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for place, (name, value) in enumerate(recorder.values.items()):
        run_time = not name.isupper() and value is not None
        if run_time and isinstance(value, tuple):
            signature[name] = tuple(map(type_of, value))
            attributes |= {(place, n): [["tt.divisibility", 16]] for n in range(len(value))}
        elif run_time:
            signature[name] = type_of(value)
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name], constants[name] = "constexpr", value
    source = ASTSource(recorder.kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=recorder.options).asm["cubin"]


def stack(binary, path):
    """Bytes of a program that don't fit in registers, as cuobjdump says."""
    Path(path).write_bytes(binary)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    said = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    return re.search(r"STACK:(\d+)", said)[1]


def compile_all(path):
    """Print the kernels and the stack that they need, at the shapes of a search."""
    recorders = []
    for module, names in (
        (attention.attention_kernels, ("forward", "backward", "learn")),
        (attention.projected_kernels, ("learn",)),
    ):
        for name in names:
            recorders.append(Recorder(getattr(module, name)))
            setattr(module, name, recorders[-1])
    many = [(5 * e + o, e, 4 * e + o - 1 if o else -1) for e in range(3) for o in range(5)]
    for channels, patches, dtype, how in (
        (32, 4, torch.float32, HOW[0]),
        (64, 16, torch.float32, HOW[0]),
        (16, 4, torch.float64, HOW[0]),
        (32, 4, torch.float32, ("layer_norm", True)),
        (64, 16, torch.float32, ("length", False)),
    ):
        for recorder in recorders:
            recorder.values = None
        what = make(channels, many, patches, dtype, how=how)
        if channels == 32:
            attended, share, means, _, each = attention.attend_pairs(what)
            attention.attend_pairs_backward(what, attended, each, attended.p, share, means, learn=True)
        else:
            attended, share, means = attention.attend(what)
            attention.attend_backward(what, attended, None, share, means, learn=True)
        for recorder in recorders:
            if recorder.values:
                print(recorder.kernel.__name__, channels, patches, dtype, *how, stack(compiled(recorder), path))


if __name__ == "__main__":
    compile_all(sys.argv[1])
