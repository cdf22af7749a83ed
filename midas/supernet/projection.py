"""Means over patches of activated projections of maps: in torch, and on a CPU by kernels that write no projected map.

Shapes: B images, C channels, R patches; G outputs, each of a projection of several of the M maps side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.supernet.cpu import projection as on_cpu
from midas.supernet.cpu import sums as cpu_sums
from midas.supernet.patches import Grid, pool_patches, widened
from midas.supernet.sums import EPSILON


def projected_patches(
    maps: Sequence[Tensor], weights: Tensor, offsets: Tensor | None, activation: str, grid: Grid, fast: bool
) -> Tensor:
    """[G, B, R, C], in float32 at least.

    Args:
        maps: M of them, each [B, C, H, W]; M / G follow each other that are projected to one sum.
        weights: of each map [G, M / G, C, C], out and in.
        offsets: added to each sum [G, C], if any.
        activation: "relu" or "norm_relu", see the key of a method.
        grid: patches down and across.
        fast: False for torch's own operations, the same up to rounding.
    """
    if torch.is_autocast_enabled(maps[0].device.type):
        dtype = torch.get_autocast_dtype(maps[0].device.type)
        maps = [x.to(dtype) for x in maps]
    if fast and activation == "relu" and all(map(cpu_sums.usable, maps)):
        return _Projected.apply(weights.flatten(0, 1), offsets, weights.shape[1], grid, *maps)
    together, found = weights.shape[1], []
    for g, weight in enumerate(weights.transpose(1, 2).unbind(0)):
        own = maps[g * together : (g + 1) * together]
        found.append(_in_torch(own, weight, None if offsets is None else offsets[g], activation, grid))
    return torch.stack(found)


def _in_torch(maps: Sequence[Tensor], weight: Tensor, offset: Tensor | None, activation: str, grid: Grid) -> Tensor:
    x = maps[0] if len(maps) == 1 else torch.cat(list(maps), 1)
    weight = weight.flatten(1)[..., None, None].to(x.dtype)
    x = F.conv2d(x, weight, None if offset is None else offset.to(x.dtype))
    if activation == "norm_relu":
        x = F.batch_norm(x, None, None, training=True, eps=EPSILON)
    return pool_patches(widened(x.relu()), grid)


class _Projected(torch.autograd.Function):
    """By the kernels."""

    @staticmethod
    def forward(ctx, weights, offsets, together, grid, *maps):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weights, offsets, *maps)
        ctx.together, ctx.grid = together, grid
        return on_cpu.project(maps, together, weights.contiguous(), offsets, grid)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        weights, offsets, *maps = ctx.saved_tensors
        learn, needed = any(ctx.needs_input_grad[:2]), ctx.needs_input_grad[4:]
        what = maps, ctx.together, weights.contiguous(), offsets, ctx.grid
        for_maps, for_weights, for_offsets = on_cpu.project_backward(gradient, *what, needed, learn)
        return for_weights, for_offsets, None, None, *for_maps
