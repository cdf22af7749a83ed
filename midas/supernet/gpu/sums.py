"""The functions of `supernet.sums` for a GPU, as Triton kernels: few launches, and each map read in the type in which it lies.

Nothing here waits for the GPU or copies from the host: all of it can be recorded as a CUDA graph. Kernels are compiled for the
size of a batch. With TRITON_INTERPRET=1 they run on a CPU, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import cdiv, next_power_of_2

from midas.supernet.gpu import sum_kernels
from midas.supernet.patches import Grid
from midas.supernet.sums import EPSILON, Gradients, Observed, average, average_backward

__all__ = ["average", "average_backward", "enter", "leave", "mix", "mix_backward", "usable"]

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.float32}
"""Types of maps, and in what their sums are kept."""

SUMMED = 8192
"""Elements that a program of a second kernel reads at a time."""


def usable(x: Tensor) -> bool:
    """Whether these functions can take a map of this device, type and layout."""
    device = "cuda" if isinstance(sum_kernels.mix, triton.JITFunction) else "cpu"
    # double maps come out of a GPU's convolutions channel by channel, and only checks have them
    return x.device.type == device and x.dtype in TYPES and (x.stride(1) == 1 or x.dtype == torch.float64)


def _strides(x: Tensor) -> tuple[int, ...]:
    """Steps along each dimension, 0 where there is but one of it: it stands for all."""
    return tuple(stride if size > 1 else 0 for stride, size in zip(x.stride(), x.shape, strict=True))


def _step(x: Tensor) -> int:
    """Step from a pixel to the next; 0 if it isn't the same everywhere, or the channels don't lie side by side."""
    images, channels, height, width = x.shape
    image, channel, row, pixel = x.stride()
    apart = [(images, image / (height * width)), (height, row / width), (width, pixel)]
    steps = {step for size, step in apart if size > 1} or {channels}
    return int(steps.pop()) if len(steps) == 1 and (channel == 1 or channels == 1) else 0


def _laid(x: Tensor) -> Tensor:
    """`x` with its channels side by side and its pixels at equal steps."""
    return x if _step(x) else x.contiguous(memory_format=torch.channels_last)


def _maps(maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Maps as kernels take them, and their steps."""
    laid = tuple(map(_laid, maps))
    return laid, tuple(map(_step, laid))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _block(channels: int, most: int = 64) -> int:
    """Channels of a program, a power of 2: as many as divide them all, if those are enough."""
    whole = channels & -channels
    return min(most, whole if whole >= 16 else next_power_of_2(channels))


def _elements(x: Tensor) -> int:
    """Elements of a tile: a map is shared by hundreds of programs, so that all of a GPU is busy."""
    return min(2048, max(1024, next_power_of_2(x.numel() // 512 + 1) // 2))


def _tiles(x: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    """Programs for a map, and the sizes that `_tile` takes."""
    images, channels, height, width = x.shape
    count, block = height * width, _block(channels)
    pixels = min(next_power_of_2(count), _elements(x) // block)
    sizes = {"count": count, "pixels": pixels, "channels": channels, "block": block}
    return (images * cdiv(count, pixels), cdiv(channels, block)), sizes


def enter(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """See `sums.enter`. Two launches, or one where only means over patches are asked for."""
    if not (normalise or grid):
        return Observed(None, None, None, None)
    x = _laid(x)
    images, channels, height, width = x.shape
    down, across = grid or (1, 1)
    assert (height % down, width % across) == (0, 0), f"a {height}x{width} map has no grid {grid}"
    patches, size, tile = images * down * across, height * width // (down * across), _elements(x) // _block(channels)
    pixels = min(next_power_of_2(size), tile)
    group, pieces = min(next_power_of_2(patches), tile // pixels), cdiv(size, pixels)
    programs, both = pieces * cdiv(patches, group), {"group": group, "pixels": pixels, "channels": channels}
    means = x.new_empty((images, down * across, pieces, channels), dtype=_wide(x)) if grid else None
    statistics, found = (x.new_empty(n, channels, dtype=_wide(x)) if normalise else None for n in (2 * programs, 3))
    sum_kernels.enter[programs, cdiv(channels, _block(channels))](
        *(x, _step(x), means, statistics, patches, height, width, across, height // down, width // across),
        **both, block=_block(channels), wide=TYPES[x.dtype],
    )  # fmt: skip
    pooled = means if means is None or pieces == 1 else torch.empty_like(means[:, :, 0])
    if normalise or pieces > 1:
        block = _block(channels, 16)
        rows, own = (min(next_power_of_2(n), most // block) for n, most in ((programs, SUMMED), (patches, 2048)))
        sum_kernels.conclude[cdiv(patches, own) if grid else 1, cdiv(channels, block)](
            *(means, statistics, found, pooled, patches, programs, EPSILON, size),
            **both, rows=rows, own=own, block=block, wide=TYPES[x.dtype], num_warps=8,
        )  # fmt: skip
    mean, scale, shift = (None, None, None) if found is None else found.unbind(0)
    return Observed(mean, scale, shift, None if pooled is None else pooled.view(images, -1, channels))


def mix(p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """See `sums.mix`. One launch."""
    out = torch.empty_like(maps[0], memory_format=torch.channels_last)
    programs, sizes = _tiles(out)
    known = *_maps(maps), p, *_strides(p), scales.contiguous(), shifts.contiguous()
    sum_kernels.mix[programs](*known, out, cdiv(len(maps), 4), **sizes, wide=TYPES[out.dtype])
    return out


def mix_backward(
    gradient: Tensor, p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `sums.mix_backward`. Two launches; the gradient is returned in its own type, which `leave` reads."""
    gradient, (images, channels), wide = _laid(gradient), maps[0].shape[:2], TYPES[maps[0].dtype]
    programs, sizes = _tiles(gradient)
    products = scales.new_empty(len(maps) + 1, programs[0], channels)
    sum_kernels.products[*programs, cdiv(len(maps), 4)](
        *_maps(maps), gradient, _step(gradient), products, **sizes, wide=wide
    )
    for_p, for_scales, for_shifts = (scales.new_empty(x.shape) for x in (p, scales, shifts))
    tiles, block = programs[0] // images, next_power_of_2(channels)
    some = min(next_power_of_2(tiles), 16)
    rows = min(next_power_of_2(images), max(1, SUMMED // (block * some)))
    known = products, p, *_strides(p), scales.contiguous(), shifts.contiguous(), for_p, for_scales, for_shifts, images
    sizes = {"tiles": tiles, "rows": rows, "some": some, "channels": channels, "block": block}
    sum_kernels.gradients[(len(maps),)](*known, len(p) == 1, **sizes, wide=wide, num_warps=8)
    return gradient, for_p, for_scales, for_shifts


def _shares(gradient: Tensor, pooled: Tensor) -> tuple[Tensor, int]:
    """What `sum_kernels.pooled_sums` finds, and how many programs shared the work."""
    images, in_image, channels = pooled.shape
    patches, block = images * in_image, _block(channels, 16)
    shares = min(8, next_power_of_2(cdiv(patches * block, 4096)))
    share, sums = cdiv(patches, shares), pooled.new_empty(shares, 2, channels)
    rows, known = min(next_power_of_2(share), 4096 // block), (*_strides(gradient), pooled.contiguous(), sums, patches)
    sum_kernels.pooled_sums[shares, cdiv(channels, block)](
        gradient, *known, share, in_image, rows, channels=channels, block=block, wide=TYPES[pooled.dtype]
    )
    return sums, shares


def leave(x: Tensor, observed: Observed, grid: Grid | None, parts: Gradients) -> Tensor:
    """See `sums.leave`. One launch, or two where the means over patches of a normalised map have a gradient."""
    x = _laid(x)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    programs, sizes = _tiles(x)
    sums, shares = None, 1
    if parts.pooled is not None and observed.pooled is not None and observed.mean is not None:
        sums, shares = _shares(parts.pooled, observed.pooled)
    firsts, gradients, weights = zip(*parts.terms, strict=True) if parts.terms else ((), (), ())
    widths, weight_steps = tuple(g.shape[1] for g in gradients), tuple(_strides(w)[0] for w in weights)
    terms = *_maps(gradients), firsts, widths, weights, weight_steps
    pooled = (None, 0, 0, 0) if parts.pooled is None else (parts.pooled, *_strides(parts.pooled))
    vectors = [None if v is None else v.contiguous() for v in (*observed[:2], parts.scale, parts.shift)]
    down, across = grid or (1, 1)
    patch = x.shape[3], across, x.shape[2] // down, x.shape[3] // across
    known = x, _step(x), out, len(x), *_maps(parts.active), *_maps(parts.given), *terms, *pooled, *vectors, sums
    sum_kernels.leave[programs](*known, *patch, shares, **sizes, wide=TYPES[x.dtype])
    return out
