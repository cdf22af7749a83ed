"""Weighted sums of maps with their batch normalisation folded in: normalised maps and their gradients are never written.

A candidate that ends in BatchNorm(affine=False) enters the sum as ``scale_c raw + shift_c`` for each channel c, from mean and
variance of the raw map, and so do its keys, since average pooling and normalisation commute. A raw map's gradient then has
four terms: from the sum, the means over patches, the mean and the variance. They are added in one place, `_Observe.backward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from midas.supernet.patches import Grid, patch_rows, pool_patches, split_rows, widened

EPSILON = 1e-5
"""Added to a variance, as ``nn.BatchNorm2d`` does."""
Terms = dict[tuple[int, int], tuple[int, Tensor, Tensor]]
"""Terms that a map's gradient still lacks: first channel, gradient of a sum [B, C, H, W], factor in that sum [B or 1, C].

By the sum and the map's number in it: a second backward pass through the same sum replaces its term.
"""


class Candidate(NamedTuple):
    """One candidate of one edge.

    Attributes:
        raw: map [B, C, H, W], before its batch normalisation if `scale` is given.
        scale: [C]; the normalised map is ``scale * raw + shift``. None if the map isn't normalised, or already is.
        shift: likewise.
        pooled: means of the normalised map over patches [B, C, R], None where they aren't needed.
        terms: where `mixture` leaves its share of the map's gradient; None: it returns that share.
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


def normalised(raw: Tensor, grid: Grid | None) -> Candidate:
    """A candidate of a raw map [B, C, H, W]; `grid` where means over patches are needed."""
    terms: Terms = {}
    raw, scale, shift, pooled = _Observe.apply(raw, grid, terms)
    return Candidate(raw, scale, shift, pooled, terms)


def mixture(p: Tensor, candidates: Sequence[Candidate]) -> Tensor:
    """sum_k p_k (scale_k raw_k + shift_k) of K candidates with weights p [B or 1, K]: [B, C, H, W]."""
    one = p.new_ones(candidates[0].raw.shape[1])
    scales = torch.stack([one if c.scale is None else c.scale for c in candidates])
    shifts = torch.stack([torch.zeros_like(one) if c.shift is None else c.shift for c in candidates])
    weights, places = p.t()[..., None], [(c.terms, c.first) for c in candidates]
    return _Mixture.apply(
        weights * scales[:, None], (weights * shifts[:, None]).sum(0), places, *(c.raw for c in candidates)
    )


class _Observe(torch.autograd.Function):
    """A map, scale and shift of its batch normalisation, and the normalised map's means over patches.

    By hand, small tensors too: there is one of these for each candidate, and autograd's bookkeeping would take longer.
    """

    @staticmethod
    def forward(ctx, raw: Tensor, grid: Grid | None, terms: Terms):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        wide = widened(raw)
        mean, variance = torch.batch_norm_update_stats(wide, None, None, 0.0)
        scale = variance.add_(EPSILON).rsqrt_()
        shift = -mean * scale
        pooled = pool_patches(wide, grid).sub_(mean[:, None]).mul_(scale[:, None]) if grid else None
        ctx.save_for_backward(raw, mean, scale, pooled)
        ctx.grid, ctx.terms = grid, terms
        return raw.view_as(raw), scale, shift, pooled

    @staticmethod
    def backward(ctx, for_map, for_scale, for_shift, for_pooled):  # type: ignore[no-untyped-def]
        raw, mean, scale, pooled = ctx.saved_tensors
        pixels = raw.numel() / raw.shape[1]
        # gradients of shift and, at a constant mean, of scale; through both, those of mean and variance
        by_shift, by_scale = for_shift, torch.addcmul(for_scale, mean, for_shift, value=-1)
        if for_pooled is not None:
            by_shift = by_shift + for_pooled.sum((0, 2))
            by_scale = by_scale + (for_pooled * pooled).sum((0, 2)) / scale
        slope = by_scale * scale.pow(3) / -pixels
        constant = torch.addcmul(by_shift * scale / -pixels, slope, mean, value=-1)
        if for_pooled is None:
            total = _linear(raw, slope[:, None, None], constant[:, None, None])
        else:
            patch = raw.shape[2] * raw.shape[3] / (ctx.grid[0] * ctx.grid[1])
            rows = patch_rows(
                torch.addcmul(constant[:, None], for_pooled, scale[:, None] / patch), ctx.grid, raw.shape[3]
            )
            total = _linear(split_rows(raw, ctx.grid), slope[:, None, None, None], rows).flatten(2, 3)
        for first, gradient, factor in ctx.terms.values():
            total.narrow(1, first, gradient.shape[1]).addcmul_(gradient, factor[..., None, None])
        ctx.terms.clear()
        return (total if for_map is None else total.add_(for_map)).to(raw.dtype), None, None


def _linear(x: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
    """Slope * x + constant in the type of the slope and the layout of x."""
    if x.dtype == slope.dtype:
        return torch.addcmul(constant, x, slope, out=torch.empty_like(x))
    return (x * slope).add_(constant)  # addcmul has no fast kernel for mixed types on a CPU


class _Mixture(torch.autograd.Function):
    """shift + sum_k factor_k raw_k: factors [K, B or 1, C] and shift [B or 1, C] in float32 at least, and so are the sums."""

    @staticmethod
    def forward(ctx, factors: Tensor, shift: Tensor, places: list[tuple[Terms | None, int]], *maps: Tensor):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(factors, *maps)
        ctx.places, ctx.shift_shape = places, shift.shape
        rows = factors[..., None, None].unbind(0)
        total = _linear(maps[0], rows[0], shift[..., None, None])
        for factor, x in zip(rows[1:], maps[1:], strict=True):
            total = total.addcmul_(x, factor) if x.dtype == total.dtype else total.add_(x * factor)
        return total.to(maps[0].dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        factors, *maps = ctx.saved_tensors
        for_factors, for_shift, _, *for_maps = ctx.needs_input_grad
        # in the layout of the maps, whatever came; in float32, since products of bfloat16 would be rounded to it
        wide = torch.empty_like(maps[0], dtype=factors.dtype).copy_(gradient)
        products = torch.stack([(wide * x).sum((2, 3)) for x in maps]) if for_factors else None
        found: list[Tensor | None] = []
        inputs = zip(factors, maps, ctx.places, for_maps, strict=True)
        for number, (factor, x, (terms, first), needed) in enumerate(inputs):
            if needed and terms is not None:
                terms[id(ctx), number] = (first, wide, factor)
            found.append((wide * factor[..., None, None]).to(x.dtype) if needed and terms is None else None)
        return (
            None if products is None else products.sum_to_size(factors.shape),
            wide.sum((2, 3)).sum_to_size(ctx.shift_shape) if for_shift else None,
            None,
            *found,
        )
