"""Queries and keys between their projection and their product: pooled, activated, normalised.

Shapes: B images, R patches, C channels, d = C dimensions of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.supernet.sums import EPSILON

SHORTEST = 1e-6
"""Length below which a query or key isn't divided by its own length, but by this."""


def normalised(x: Tensor, how: str) -> Tensor:
    """Queries or keys [..., d], each divided by what the key `normalise` of a method says; see `Method`."""
    if how == "length":
        return F.normalize(x, dim=-1, eps=SHORTEST)
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) if how == "layer_norm" else x


def activated(x: Tensor, how: str) -> Tensor:
    """Projected means over patches [B, K, R, d], after the key `activation`; statistics are of each of the K alone."""
    if how == "norm_relu":
        variance, mean = torch.var_mean(x, (0, 2), correction=0, keepdim=True)
        x = (x - mean) * (variance + EPSILON).rsqrt()
    return x if how == "none" else x.relu()


def averaged(maps: Sequence[Tensor], height: int, width: int) -> list[Tensor]:
    """Maps [B, C, H, W], the larger ones averaged to this size (inputs of a reduction cell)."""
    sizes = [(x.shape[2] // height, x.shape[3] // width) for x in maps]
    return [x if size == (1, 1) else F.avg_pool2d(x, size) for x, size in zip(maps, sizes, strict=True)]
