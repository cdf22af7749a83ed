"""Weighted sums of maps with their batch normalisation folded in: normalised maps and their gradients are never written.

A candidate that ends in BatchNorm(affine=False) enters the sum as ``scale_c raw + shift_c`` for each channel c, from mean and
variance of the raw map, and so do its keys, since average pooling and normalisation commute. A raw map's gradient then has
four terms: from the sums, the means over patches, the mean and the variance. They are added in one place, where the map entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.supernet import sums
from midas.supernet.backends import sums_of
from midas.supernet.cpu import sums as on_cpu
from midas.supernet.patches import Grid, pool_patches, widened
from midas.supernet.sums import Term

Terms = dict[tuple[int, int], Term]
"""Terms of a map's gradient by the sum and the map's number in it: a second backward pass through that sum replaces its term."""


class Candidate(NamedTuple):
    """One candidate of one edge.

    Attributes:
        raw: map [B, C, H, W], before its batch normalisation if `scale` is given.
        scale: [C]; the normalised map is ``scale * raw + shift``. None if the map isn't normalised, or already is.
        shift: likewise.
        pooled: means of the normalised map over patches [B, R, C], None where they aren't needed.
        terms: where `mixture` leaves its share of the map's gradient; None: that is left to autograd.
        first: first channel of `raw` in the map that `terms` belong to.
    """

    raw: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    pooled: Tensor | None = None
    terms: Terms | None = None
    first: int = 0

    @property
    def map(self) -> Tensor:
        """The normalised map [B, C, H, W]."""
        if self.scale is None or self.shift is None:
            return self.raw
        return self.raw * self.scale[:, None, None] + self.shift[:, None, None]

    def detached(self) -> Candidate:
        """The same without a gradient."""
        raw, scale, shift, pooled = (None if x is None else x.detach() for x in self[:4])
        assert raw is not None
        return Candidate(raw, scale, shift, pooled)


def normalised(raw: Tensor, grid: Grid | None) -> Candidate:
    """A candidate of a raw map [B, C, H, W]; `grid` where means over patches are needed."""
    terms: Terms = {}
    raw, scale, shift, pooled = _Enter.apply(raw, grid, True, 0, terms)
    return Candidate(raw, scale, shift, pooled, terms)


def convolved(x: Tensor, conv: nn.Conv2d, grid: Grid | None) -> Candidate:
    """`normalised` of a convolution's map, in the precision of autocast; for autograd the two are one."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    terms: Terms = {}
    raw, scale, shift, pooled = _Convolved.apply(x, conv.weight, conv, grid, terms)
    return Candidate(raw, scale, shift, pooled, terms)


def unchanged(x: Tensor, grid: Grid | None, uses: int = 0) -> tuple[Candidate, list[Tensor]]:
    """A candidate that isn't normalised, and relu(x) for each of `uses`, whose gradients are added with the candidate's own."""
    terms: Terms = {}
    x, _, _, pooled, *active = _Enter.apply(x, grid, False, uses, terms)
    return Candidate(x, pooled=pooled, terms=terms), active


def average_pool(x: Tensor, stride: int) -> Tensor:
    """avg_pool_3x3 of a map [B, C, H, W]: the mean of those of 3x3 pixels that lie inside it."""
    return _AveragePool.apply(x, stride)


def plain(x: Tensor, grid: Grid | None) -> Candidate:
    """A candidate whose normalised map is known, with nothing done by hand."""
    return Candidate(x, pooled=pool_patches(widened(x), grid) if grid else None)


def mixture(p: Tensor, candidates: Sequence[Candidate]) -> Tensor:
    """sum_k p_k (scale_k raw_k + shift_k) of K candidates with weights p [B or 1, K]: [B, C, H, W]."""
    maps = [c.raw for c in candidates]
    if any(c.terms is None for c in candidates):
        weighted = [w[:, None, None, None] * c.map for w, c in zip(p.unbind(1), candidates, strict=True)]
        return torch.stack(weighted).sum(0).to(maps[0].dtype)
    one, zero = constants(maps[0].shape[1], p.dtype, p.device)
    scales = torch.stack([one if c.scale is None else c.scale for c in candidates])
    shifts = torch.stack([zero if c.shift is None else c.shift for c in candidates])
    return _Mixture.apply(p.contiguous(), scales, shifts, [(c.terms, c.first) for c in candidates], *maps)


@cache
def constants(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift [C] of a map that isn't normalised; made once, since on a GPU each would be a launch of each sum."""
    return torch.ones(channels, dtype=dtype, device=device), torch.zeros(channels, dtype=dtype, device=device)


class _Enter(torch.autograd.Function):
    """A map; scale and shift of its normalisation; means over patches; relu(map) for each of `uses`. One gradient of all."""

    @staticmethod
    def forward(ctx, x, grid, normalise, uses, terms):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.by, ctx.grid, ctx.terms = sums_of(x), grid, terms
        observed = ctx.by.enter(x, grid, normalise)
        ctx.save_for_backward(x, *observed)
        active = x.relu() if uses else x
        return x.view_as(x), *observed[1:], *(active.detach() for _ in range(uses))

    @staticmethod
    def backward(ctx, for_map, for_scale, for_shift, for_pooled, *for_active):  # type: ignore[no-untyped-def]
        x, *observed = ctx.saved_tensors
        given = [] if for_map is None else [for_map]
        active = [gradient for gradient in for_active if gradient is not None]
        parts = sums.Gradients(for_scale, for_shift, for_pooled, list(ctx.terms.values()), given, active)
        ctx.terms.clear()
        return ctx.by.leave(x, sums.Observed(*observed), ctx.grid, parts), None, None, None, None


class _Convolved(torch.autograd.Function):
    """The same of a convolution's map, whose own gradient needn't be kept."""

    @staticmethod
    def forward(ctx, x, weight, conv, grid, terms):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        rounded = weight.to(x.dtype)
        ctx.pointwise = conv.kernel_size == conv.stride == (1, 1) and on_cpu.usable_pointwise(x)
        if ctx.pointwise:
            raw, observed = on_cpu.pointwise(x, rounded, grid)
        else:
            raw = F.conv2d(x, rounded, None, conv.stride, conv.padding)
            ctx.by = sums_of(raw)
            observed = ctx.by.enter(raw, grid, True)
        ctx.save_for_backward(x, rounded, raw, *observed)
        ctx.conv, ctx.grid, ctx.terms = conv, grid, terms
        return raw, *observed[1:]

    @staticmethod
    def backward(ctx, for_map, for_scale, for_shift, for_pooled):  # type: ignore[no-untyped-def]
        x, weight, raw, *observed = ctx.saved_tensors
        given = [] if for_map is None else [for_map]
        parts = sums.Gradients(for_scale, for_shift, for_pooled, list(ctx.terms.values()), given, [])
        ctx.terms.clear()
        what, needed = (raw, sums.Observed(*observed), ctx.grid, parts), ctx.needs_input_grad[:2]
        if ctx.pointwise:
            found = on_cpu.pointwise_backward(x, weight, *what, learn=needed[1])
        else:
            options = ctx.conv.stride, ctx.conv.padding, (1, 1), False, (0, 0), 1, (*needed, False)
            found = torch.ops.aten.convolution_backward(ctx.by.leave(*what), x, weight, None, *options)[:2]
        return *found, None, None, None


class _Mixture(torch.autograd.Function):
    """sum_k p_k (scale_k map_k + shift_k); the maps' own gradients are left with their terms."""

    @staticmethod
    def forward(ctx, p, scales, shifts, places, *maps):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(p, scales, shifts, *maps)
        ctx.by, ctx.places = sums_of(*maps), places
        return ctx.by.mix(p, scales, shifts, maps)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        p, scales, shifts, *maps = ctx.saved_tensors
        wide, *found = ctx.by.mix_backward(gradient, p, scales, shifts, maps)
        for number, ((terms, first), needed) in enumerate(zip(ctx.places, ctx.needs_input_grad[4:], strict=True)):
            if needed:
                terms[id(ctx), number] = Term(first, wide, p[:, number])
        return *found, None, *(None for _ in maps)


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, stride):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.by, ctx.stride = sums_of(x), stride
        return ctx.by.average(x, stride)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return ctx.by.average_backward(gradient, x, ctx.stride), None
