"""The sums of `mixture` in torch: for every device, and for a CPU without a compiler. `cpu.sums` and `gpu.sums` do the same.

Shapes: B images, C channels, R patches, K candidates. Maps [B, C, H, W] in float64, float32 or bfloat16; all else in float32 at
least, in which sums are kept too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from midas.networks.pooling import average, average_backward
from midas.supernet.patches import Grid, patch_rows, pool_patches, split_rows, widened

__all__ = [
    "EPSILON",
    "Gradients",
    "Observed",
    "Term",
    "average",
    "average_backward",
    "enter",
    "leave",
    "mix",
    "mix_backward",
]

EPSILON = 1e-5
"""Added to a variance, as ``nn.BatchNorm2d`` does."""


class Observed(NamedTuple):
    """What is known of a map.

    Attributes:
        mean: [C], of a map that is to be normalised, else None.
        scale: ``1 / sqrt(variance + EPSILON)`` [C], likewise.
        shift: ``-mean * scale`` [C], likewise.
        pooled: means over patches [B, R, C] of the map, normalised if it is to be; None where no grid was given.
    """

    mean: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    pooled: Tensor | None


class Term(NamedTuple):
    """A part of a map's gradient: ``p * gradient`` (times the map's scale), from channel `first` on.

    Attributes:
        first: first channel.
        gradient: of a sum [B, channels of the sum, H, W].
        p: weight of the map in that sum [B or 1].
    """

    first: int
    gradient: Tensor
    p: Tensor


class Gradients(NamedTuple):
    """Parts of a map's gradient.

    Attributes:
        scale: gradient of `Observed.scale`.
        shift: likewise.
        pooled: likewise.
        terms: from sums.
        given: of the map itself, wherever else it was used.
        active: of relu(map).
    """

    scale: Tensor | None
    shift: Tensor | None
    pooled: Tensor | None
    terms: Sequence[Term]
    given: Sequence[Tensor]
    active: Sequence[Tensor]


def enter(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """Statistics and means over patches of a map, as far as they are asked for."""
    wide = widened(x)
    pooled = pool_patches(wide, grid) if grid else None
    if not normalise:
        return Observed(None, None, None, pooled)
    mean, variance = torch.batch_norm_update_stats(wide, None, None, 0.0)
    scale = variance.add_(EPSILON).rsqrt_()
    if pooled is not None:
        pooled = pooled.sub_(mean).mul_(scale)
    return Observed(mean, scale, -mean * scale, pooled)


def leave(x: Tensor, observed: Observed, grid: Grid | None, parts: Gradients) -> Tensor:
    """The gradient of a map from its parts."""
    total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
    for active in parts.active:
        total += active
    if parts.active:
        total *= x > 0
    patch = x.shape[2] * x.shape[3] // (grid[0] * grid[1]) if grid else 1
    per_pixel = None if parts.pooled is None else parts.pooled / patch
    if observed.mean is not None and observed.scale is not None:
        slope, constant = _through_statistics(x, observed, parts)
        total.addcmul_(widened(x), slope[:, None, None]).add_(constant[:, None, None])
        per_pixel = None if per_pixel is None else per_pixel * observed.scale
    if grid and per_pixel is not None:
        split_rows(total, grid).add_(patch_rows(per_pixel, grid, x.shape[3]))
    for first, gradient, p in parts.terms:
        channels = gradient.shape[1]
        factor = p[:, None] if observed.scale is None else p[:, None] * observed.scale[first : first + channels]
        total.narrow(1, first, channels).addcmul_(gradient, factor[..., None, None])
    for given in parts.given:
        total += given
    return total.to(x.dtype)


def _through_statistics(x: Tensor, observed: Observed, parts: Gradients) -> tuple[Tensor, Tensor]:
    """Gradient by way of mean and variance: slope [C] times the map, plus a constant [C]."""
    mean, scale, _, pooled = observed
    assert mean is not None
    assert scale is not None
    # gradients of shift and, at a constant mean, of scale
    by_shift = torch.zeros_like(mean) if parts.shift is None else parts.shift
    by_scale = -mean * by_shift if parts.scale is None else torch.addcmul(parts.scale, mean, by_shift, value=-1)
    if parts.pooled is not None and pooled is not None:
        by_shift = by_shift + parts.pooled.sum((0, 1))
        by_scale = by_scale + (parts.pooled * pooled).sum((0, 1)) / scale
    pixels = x.numel() / x.shape[1]
    slope = by_scale * scale.pow(3) / -pixels
    return slope, torch.addcmul(by_shift * scale / -pixels, slope, mean, value=-1)


def mix(p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """sum_k p_k (scale_k map_k + shift_k) with p [B or 1, K], scales and shifts [K, C], in the type of the maps."""
    weights = p.t()[..., None]
    factors, shift = (weights * scales[:, None])[..., None, None], (weights * shifts[:, None]).sum(0)
    total = torch.zeros_like(maps[0], dtype=scales.dtype).add_(shift[..., None, None])
    for factor, x in zip(factors, maps, strict=True):
        total.addcmul_(widened(x), factor)
    return total.to(maps[0].dtype)


def mix_backward(
    gradient: Tensor, p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of a sum as its terms need it, and those of p, scales and shifts."""
    # in the layout of the maps, whatever came; in float32, since products of bfloat16 would be rounded to it
    wide = torch.empty_like(maps[0], dtype=scales.dtype).copy_(gradient)
    products = torch.stack([(wide * x).sum((2, 3)) for x in maps])
    total, weights = wide.sum((2, 3)), p.t()[..., None]
    for_p = (products * scales[:, None] + total * shifts[:, None]).sum(2).t().sum_to_size(p.shape)
    return wide, for_p, (products * weights).sum(1), (total * weights).sum(1)
