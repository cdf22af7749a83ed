"""The functions of `sums` for a CPU, 1x1 convolutions and attention, compiled from kernels.cpp and the headers beside it.

Needs a C++ compiler with OpenMP (``$CXX``, or ``c++``). Without one, and for maps whose channels don't lie side by side, `sums`
does the work: slower, the same up to rounding.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
import warnings
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from midas.supernet.compiler import library
from midas.supernet.patches import Grid
from midas.supernet.sums import EPSILON, Gradients, Observed, Term

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", f"-DEPSILON={EPSILON}")
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def usable(x: Tensor) -> bool:
    """Whether these functions can take a map of this device, type and layout."""
    return x.device.type == "cpu" and x.dtype in TYPES and x.stride(1) == 1 and compiled() is not None


def usable_pointwise(x: Tensor) -> bool:
    """Whether `pointwise` can take a map: channels that fill whole registers, products of its type."""
    return usable(x) and x.shape[1] % 16 == 0 and bool(compiled().multiplies(TYPES[x.dtype]))  # type: ignore[union-attr]


def usable_rows(*tensors: Tensor) -> bool:
    """Whether `attend` can take these projections and means over patches."""
    dtype, wanted = tensors[0].dtype, (torch.float32, torch.float64)
    alike = all(x.dtype == dtype and x.device.type == "cpu" and x.stride(-1) == 1 for x in tensors)
    return alike and dtype in wanted and compiled() is not None


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None where they can't be compiled, which is said once."""
    try:
        found = ctypes.CDLL(str(library(SOURCE, FLAGS)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        line = str(reason).strip().splitlines()[0] if str(reason).strip() else type(error).__name__
        warnings.warn(f"a search on this CPU takes longer: {SOURCE.name} can't be compiled ({line})", stacklevel=2)
        return None
    found.call.restype = None
    found.call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    return found


def enter(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """See `sums.enter`."""
    observed = _unobserved(x, grid, normalise)
    if normalise or grid:
        x = _laid(x, x)
        _call("enter", x.dtype, x.shape, grid, _entering(x, observed))
    return observed


def leave(x: Tensor, observed: Observed, grid: Grid | None, parts: Gradients) -> Tensor:
    """See `sums.leave`."""
    x = _laid(x, x)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    parts = _ready(parts, x)
    _call("leave", x.dtype, x.shape, grid, [*_leaving(x, observed, parts), *_map(out)])
    return out


def pointwise(x: Tensor, weight: Tensor, grid: Grid | None) -> tuple[Tensor, Observed]:
    """A 1x1 convolution of a map [B, D, H, W], and what `enter` says of the map that comes out.

    Args:
        x: the map; D is a multiple of 16.
        weight: [n D, D, 1, 1], of the map's type.
        grid: see `sums.enter`.
    """
    x = _laid(x, x)
    shape = (len(x), len(weight), *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    observed, weight = _unobserved(out, grid, True), weight.contiguous()
    numbers = [*_map(x), x.shape[1], *_addresses(weight), *_map(out), *_addresses(None), *_entering(out, observed)]
    _call("pointwise", x.dtype, shape, grid, numbers)
    return out, observed


def pointwise_backward(
    x: Tensor, weight: Tensor, out: Tensor, observed: Observed, grid: Grid | None, parts: Gradients, learn: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the map and, to `learn` it, of the weight of `pointwise`, from the parts that `leave` adds up."""
    x = _laid(x, x)
    for_x = torch.empty_like(x, memory_format=torch.channels_last)
    for_weight = torch.empty_like(weight, dtype=_wide(x), memory_format=torch.contiguous_format) if learn else None
    parts, weight = _ready(parts, out), weight.contiguous()
    numbers = [*_map(x), x.shape[1], *_addresses(weight), *_map(for_x), *_addresses(for_weight)]
    _call("pointwise_backward", x.dtype, out.shape, grid, [*numbers, *_leaving(out, observed, parts)])
    return for_x, for_weight


def _unobserved(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """Room for what is asked for."""
    images, channels = x.shape[:2]
    mean, scale, shift = x.new_empty((3, channels), dtype=_wide(x)).unbind(0) if normalise else (None, None, None)
    pooled = x.new_empty((images, grid[0] * grid[1], channels), dtype=_wide(x)) if grid else None
    return Observed(mean, scale, shift, pooled)


def _entering(x: Tensor, observed: Observed) -> list[int]:
    return [*_map(x), *_addresses(*observed)]


def _ready(parts: Gradients, x: Tensor) -> Gradients:
    """In the layouts that are read; to be kept until the kernel returns."""
    pooled = parts.pooled if parts.pooled is None or parts.pooled.stride(2) == 1 else parts.pooled.contiguous()
    return Gradients(
        None if parts.scale is None else parts.scale.contiguous(),
        None if parts.shift is None else parts.shift.contiguous(),
        pooled,
        [Term(first, _laid(gradient, x), p) for first, gradient, p in parts.terms],
        [_laid(g, x) for g in parts.given],
        [_laid(g, x) for g in parts.active],
    )


def _leaving(x: Tensor, observed: Observed, parts: Gradients) -> list[int]:
    terms = parts.terms
    numbers = [terms[0].gradient.shape[1] if terms else x.shape[1], *_map(x)]
    numbers += [*_addresses(observed.mean, observed.scale, observed.pooled, parts.scale, parts.shift)]
    numbers += [*_rows(parts.pooled), len(terms)]
    for first, gradient, p in terms:
        numbers += (*_map(gradient), first, p.data_ptr(), p.stride(0) if len(p) > 1 else 0)
    return [*numbers, *_maps(parts.given), *_maps(parts.active)]


def mix(p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """See `sums.mix`."""
    maps = [_laid(x, maps[0]) for x in maps]
    out = torch.empty_like(maps[0], memory_format=torch.channels_last)
    _call("mix", out.dtype, out.shape, None, [*_maps(maps), *_addresses(scales, shifts, p), _step(p), *_map(out)])
    return out


def mix_backward(
    gradient: Tensor, p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `sums.mix_backward`."""
    maps = [_laid(x, maps[0]) for x in maps]
    gradient = _laid(gradient, maps[0])
    found = torch.zeros_like(p), torch.zeros_like(scales), torch.zeros_like(shifts)
    known = [*_maps(maps), *_addresses(scales, shifts, p), _step(p), *_map(gradient)]
    _call("mix_backward", gradient.dtype, gradient.shape, None, [*known, *_addresses(*found)])
    return gradient, *found


def average(x: Tensor, stride: int) -> Tensor:
    """See `sums.average`."""
    x = _laid(x, x)
    size = [(side - 1) // stride + 1 for side in x.shape[2:]]
    out = torch.empty((*x.shape[:2], *size), dtype=x.dtype, memory_format=torch.channels_last)
    _call("average", x.dtype, x.shape, None, [stride, *_map(x), *_map(out)])
    return out


def average_backward(gradient: Tensor, like: Tensor, stride: int) -> Tensor:
    """See `sums.average_backward`."""
    gradient = _laid(gradient, like)
    out = torch.empty_like(like, memory_format=torch.channels_last)
    _call("average_backward", like.dtype, like.shape, None, [stride, *_map(gradient), *_map(out)])
    return out


class Node(NamedTuple):
    """What the attention of a node weighs.

    Attributes:
        inputs: means over patches of the maps of its E source nodes, each [B, R, C].
        candidates: likewise of its K candidates.
        entries: (place, set of the softmax, candidate or -1 for "none") of each weight, those of a set side by side.
        places: P, how many there are, whether something is offered there or not.
        query: W_Q [C, E C].
        key: W_K [1, C, C], shared by all operations.
        scale: of the logits.
    """

    inputs: Sequence[Tensor]
    candidates: Sequence[Tensor]
    entries: Sequence[tuple[int, int, int]]
    places: int
    query: Tensor
    key: Tensor
    scale: float

    def numbers(self) -> list[int]:
        """All of it as kernels.cpp takes it."""
        rows = [[len(maps), *(n for x in maps for n in _rows(x))] for maps in (self.inputs, self.candidates)]
        entries = [len(self.entries), *(n for entry in self.entries for n in entry)]
        (scale,) = struct.unpack("q", struct.pack("d", self.scale))
        return [*rows[0], *rows[1], *entries, *_addresses(self.query, self.key), scale, self.places]


class Attended(NamedTuple):
    """What `attend` finds, and keeps for the gradients.

    Attributes:
        weights: of each patch [B, R, P], 0 where nothing is offered.
        p: their means [B, P].
        projected: q and W_K^T q of each patch [B, R, 2, C].
    """

    weights: Tensor
    p: Tensor
    projected: Tensor


def attend(node: Node) -> tuple[Attended, Tensor, Tensor]:
    """Softmax over each set of logits ``scale * q . k`` in each patch, averaged; `mixing.AttentionMixing` says it in torch.

    Returns:
        The weights; those of the candidates [B, K]; the means over patches [B, R, C] of the mixture that they make.
    """
    x = node.inputs[0]
    images, patches, channels = x.shape
    attended = Attended(
        x.new_empty((images, patches, node.places)),
        x.new_empty((images, node.places)),
        x.new_empty((images, patches, 2, channels)),
    )
    share, means = (
        x.new_empty((images, len(node.candidates))),
        torch.empty_like(x, memory_format=torch.contiguous_format),
    )
    _call_attention("attend", node, *attended, share, means)
    return attended, share, means


def attend_backward(
    node: Node,
    attended: Attended,
    for_p: Tensor | None,
    for_share: Tensor | None,
    for_means: Tensor | None,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of inputs [E, B, R, C], candidates [K, B, R, C] and, to `learn` them, of W_Q and W_K."""
    x = node.inputs[0]
    for_inputs, for_candidates = (x.new_empty((len(maps), *x.shape)) for maps in (node.inputs, node.candidates))
    for_query, for_key = (torch.empty_like(w) if learn else None for w in (node.query, node.key))
    given = [None if g is None else g.contiguous() for g in (for_p, for_share, for_means)]
    _call_attention("attend_backward", node, *attended, *given, for_inputs, for_candidates, for_query, for_key)
    return for_inputs, for_candidates, for_query, for_key


def _call_attention(name: str, node: Node, *tensors: Tensor | None) -> None:
    x = node.inputs[0]
    images, patches, channels = x.shape
    _call(name, x.dtype, (images, channels, patches, 1), None, [*node.numbers(), *_addresses(*tensors)])


FUNCTIONS = {
    f.__name__: number
    for number, f in enumerate(
        (
            *(enter, leave, pointwise, pointwise_backward, mix, mix_backward),
            *(average, average_backward, attend, attend_backward),
        )
    )
}


def _call(name: str, dtype: torch.dtype, shape: Sequence[int], grid: Grid | None, numbers: list[int]) -> None:
    """Call a kernel for maps of a type and shape with what else it needs, in the order in which kernels.cpp takes it."""
    numbers = [*shape, *(grid or (1, 1)), *numbers]
    packed = array("q", numbers)
    compiled().call(FUNCTIONS[name], TYPES[dtype], torch.get_num_threads(), packed.buffer_info()[0])  # type: ignore[union-attr]


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _laid(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the type of `like`, its channels side by side and its pixels at equal steps."""
    if x.dtype != like.dtype:
        x = x.to(like.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    channel, row, pixel = x.stride()[1:]
    even = row == x.shape[3] * pixel or 1 in x.shape[2:]
    return x if channel == 1 and even else x.contiguous(memory_format=torch.channels_last)


def _map(x: Tensor) -> tuple[int, int, int]:
    """Address, and steps from an image and a pixel to the next."""
    image, _, row, pixel = x.stride()
    return x.data_ptr(), image, pixel if x.shape[3] > 1 else row


def _rows(x: Tensor | None) -> tuple[int, int, int]:
    """Address, and steps from an image and a patch to the next, of means over patches [B, R, C], channels side by side."""
    return (0, 0, 0) if x is None else (x.data_ptr(), x.stride(0), x.stride(1))


def _maps(maps: Sequence[Tensor]) -> list[int]:
    return [len(maps), *(n for x in maps for n in _map(x))]


def _step(p: Tensor) -> int:
    return p.shape[1] if p.shape[0] > 1 else 0


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if x is None else x.data_ptr() for x in tensors]
