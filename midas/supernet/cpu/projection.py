"""Means over patches of the ReLU of projected maps for a CPU, compiled from kernels.cpp: no projected map is ever written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from midas.supernet.cpu.kernels import addresses, call, laid, of_map, of_maps, wide
from midas.supernet.patches import Grid


def project(maps: Sequence[Tensor], together: int, weights: Tensor, offsets: Tensor | None, grid: Grid) -> Tensor:
    """[G, B, R, C], each of the G outputs of `together` maps.

    Args:
        maps: M = G together of them, each [B, C, H, W].
        together: how many are projected to one sum.
        weights: of each map [M, C, C], in the type of sums.
        offsets: added to each sum [G, C], or None.
        grid: patches down and across.
    """
    maps = [laid(x, x) for x in maps]
    images, channels = maps[0].shape[:2]
    out = weights.new_empty(len(maps) // together, images, grid[0] * grid[1], channels)
    call("project", maps[0].dtype, maps[0].shape, grid, _numbers(maps, together, weights, offsets, out))
    return out


def project_backward(
    gradient: Tensor, maps: Sequence[Tensor], together: int, weights: Tensor, offsets: Tensor | None, grid: Grid,
    needed: Sequence[bool], learn: bool,
) -> tuple[list[Tensor | None], Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of the maps that are `needed`, and, to `learn` them, of weights and offsets, from that of `project`."""
    maps, gradient = [laid(x, x) for x in maps], gradient.contiguous()
    layout = torch.channels_last
    for_maps = [
        torch.empty(x.shape, dtype=x.dtype, memory_format=layout) if n else None
        for x, n in zip(maps, needed, strict=True)
    ]
    for_weights = torch.empty_like(weights) if learn else None
    for_offsets = torch.empty_like(offsets) if learn and offsets is not None else None
    outputs = [len(maps), *(n for x in for_maps for n in ((0, 0, 0) if x is None else of_map(x)))]
    numbers = _numbers(maps, together, weights, offsets, gradient)
    numbers += [*outputs, *addresses(for_weights, for_offsets)]
    call("project_backward", maps[0].dtype, maps[0].shape, grid, numbers)
    return for_maps, for_weights, for_offsets


def _numbers(maps: Sequence[Tensor], together: int, weights: Tensor, offsets: Tensor | None, out: Tensor) -> list[int]:
    assert all(x.dtype == wide(maps[0]) and x.is_contiguous() for x in (weights, out))
    return [*of_maps(maps), together, *addresses(weights, offsets, out)]
