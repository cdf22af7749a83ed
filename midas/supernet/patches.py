"""Patches of a map: their means, and how the gradient of a mean spreads over its pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
"""Patches down and across."""


def widened(x: Tensor) -> Tensor:
    """In float32 at least: sums over many pixels need more than bfloat16's three digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def patch_grid(height: int, width: int, patch_size: int | None) -> Grid:
    """Patches down and across a map: one patch where the map isn't larger than a patch, or there are no patches."""
    if patch_size is None:
        return 1, 1
    return max(1, height // patch_size), max(1, width // patch_size)


def pool_patches(x: Tensor, grid: Grid) -> Tensor:
    """Mean over each patch: [B, C, H, W] -> [B, R, C]. A map twice as large is pooled onto the same grid."""
    height, width = x.shape[-2:]
    assert (height % grid[0], width % grid[1]) == (0, 0), f"a {height}x{width} map has no grid {grid}"
    return F.avg_pool2d(x, (height // grid[0], width // grid[1])).flatten(2).mT


def patch_rows(patches: Tensor, grid: Grid, width: int) -> Tensor:
    """The value of each pixel's patch, in one row of pixels for each row of patches: [B, R, C] -> [B, C, grid[0], 1, width].

    Added to a map as `split_rows` sees it, it spreads over the rows of a patch by broadcasting: long runs of memory.
    """
    rows = patches.mT.unflatten(2, (grid[0], 1, grid[1])).repeat_interleave(width // grid[1], -1)
    return rows.contiguous(memory_format=torch.channels_last_3d)


def split_rows(x: Tensor, grid: Grid) -> Tensor:
    """[B, C, H, W] -> [B, C, grid[0], H / grid[0], W]."""
    return x.unflatten(2, (grid[0], -1))
