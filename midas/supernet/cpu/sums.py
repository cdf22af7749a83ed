"""The functions of `supernet.sums` for a CPU, and 1x1 convolutions, compiled from kernels.cpp."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from midas.supernet.cpu.kernels import (
    TYPES,
    addresses,
    call,
    laid,
    multiplies,
    of_map,
    of_maps,
    of_rows,
    step,
    there,
    wide,
)
from midas.supernet.patches import Grid
from midas.supernet.sums import Gradients, Observed, Term


def usable(x: Tensor) -> bool:
    """Whether these functions can take a map of this device, type and layout."""
    return x.device.type == "cpu" and x.dtype in TYPES and x.stride(1) == 1 and there()


def usable_pointwise(x: Tensor) -> bool:
    """Whether `pointwise` can take a map: channels that fill whole registers, products of its type."""
    return usable(x) and x.shape[1] % 16 == 0 and multiplies(x.dtype)


def enter(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """See `sums.enter`."""
    observed = _unobserved(x, grid, normalise)
    if normalise or grid:
        x = laid(x, x)
        call("enter", x.dtype, x.shape, grid, _entering(x, observed))
    return observed


def leave(x: Tensor, observed: Observed, grid: Grid | None, parts: Gradients) -> Tensor:
    """See `sums.leave`."""
    x = laid(x, x)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    parts = _ready(parts, x)
    call("leave", x.dtype, x.shape, grid, [*_leaving(x, observed, parts), *of_map(out)])
    return out


def pointwise(x: Tensor, weight: Tensor, grid: Grid | None) -> tuple[Tensor, Observed]:
    """A 1x1 convolution of a map [B, D, H, W], and what `enter` says of the map that comes out.

    Args:
        x: the map; D is a multiple of 16.
        weight: [n D, D, 1, 1], of the map's type.
        grid: see `sums.enter`.
    """
    x = laid(x, x)
    shape = (len(x), len(weight), *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    observed, weight = _unobserved(out, grid, True), weight.contiguous()
    numbers = [*of_map(x), x.shape[1], *addresses(weight), *of_map(out), *addresses(None), *_entering(out, observed)]
    call("pointwise", x.dtype, shape, grid, numbers)
    return out, observed


def pointwise_backward(
    x: Tensor, weight: Tensor, out: Tensor, observed: Observed, grid: Grid | None, parts: Gradients, learn: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the map and, to `learn` it, of the weight of `pointwise`, from the parts that `leave` adds up."""
    x = laid(x, x)
    for_x = torch.empty_like(x, memory_format=torch.channels_last)
    for_weight = torch.empty_like(weight, dtype=wide(x), memory_format=torch.contiguous_format) if learn else None
    parts, weight = _ready(parts, out), weight.contiguous()
    numbers = [*of_map(x), x.shape[1], *addresses(weight), *of_map(for_x), *addresses(for_weight)]
    call("pointwise_backward", x.dtype, out.shape, grid, [*numbers, *_leaving(out, observed, parts)])
    return for_x, for_weight


def _unobserved(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """Room for what is asked for."""
    images, channels = x.shape[:2]
    mean, scale, shift = x.new_empty((3, channels), dtype=wide(x)).unbind(0) if normalise else (None, None, None)
    pooled = x.new_empty((images, grid[0] * grid[1], channels), dtype=wide(x)) if grid else None
    return Observed(mean, scale, shift, pooled)


def _entering(x: Tensor, observed: Observed) -> list[int]:
    return [*of_map(x), *addresses(*observed)]


def _ready(parts: Gradients, x: Tensor) -> Gradients:
    """In the layouts that are read; to be kept until the kernel returns."""
    pooled = parts.pooled if parts.pooled is None or parts.pooled.stride(2) == 1 else parts.pooled.contiguous()
    return Gradients(
        None if parts.scale is None else parts.scale.contiguous(),
        None if parts.shift is None else parts.shift.contiguous(),
        pooled,
        [Term(first, laid(gradient, x), p) for first, gradient, p in parts.terms],
        [laid(g, x) for g in parts.given],
        [laid(g, x) for g in parts.active],
    )


def _leaving(x: Tensor, observed: Observed, parts: Gradients) -> list[int]:
    terms = parts.terms
    numbers = [terms[0].gradient.shape[1] if terms else x.shape[1], *of_map(x)]
    numbers += [*addresses(observed.mean, observed.scale, observed.pooled, parts.scale, parts.shift)]
    numbers += [*of_rows(parts.pooled), len(terms)]
    for first, gradient, p in terms:
        numbers += (*of_map(gradient), first, p.data_ptr(), p.stride(0) if len(p) > 1 else 0)
    return [*numbers, *of_maps(parts.given), *of_maps(parts.active)]


def mix(p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """See `sums.mix`."""
    maps = [laid(x, maps[0]) for x in maps]
    out = torch.empty_like(maps[0], memory_format=torch.channels_last)
    call("mix", out.dtype, out.shape, None, [*of_maps(maps), *addresses(scales, shifts, p), step(p), *of_map(out)])
    return out


def mix_backward(
    gradient: Tensor, p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `sums.mix_backward`."""
    maps = [laid(x, maps[0]) for x in maps]
    gradient = laid(gradient, maps[0])
    found = torch.zeros_like(p), torch.zeros_like(scales), torch.zeros_like(shifts)
    known = [*of_maps(maps), *addresses(scales, shifts, p), step(p), *of_map(gradient)]
    call("mix_backward", gradient.dtype, gradient.shape, None, [*known, *addresses(*found)])
    return gradient, *found


def average(x: Tensor, stride: int) -> Tensor:
    """See `sums.average`."""
    x = laid(x, x)
    size = [(side - 1) // stride + 1 for side in x.shape[2:]]
    out = torch.empty((*x.shape[:2], *size), dtype=x.dtype, memory_format=torch.channels_last)
    call("average", x.dtype, x.shape, None, [stride, *of_map(x), *of_map(out)])
    return out


def average_backward(gradient: Tensor, like: Tensor, stride: int) -> Tensor:
    """See `sums.average_backward`."""
    gradient = laid(gradient, like)
    out = torch.empty_like(like, memory_format=torch.channels_last)
    call("average_backward", like.dtype, like.shape, None, [stride, *of_map(gradient), *of_map(out)])
    return out
