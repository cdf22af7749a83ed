"""avg_pool_3x3 with a right gradient on a GPU.

torch's own gradient of an average pooling with padding is wrong on CUDA where a map's channels lie side by side
(pytorch/pytorch issue 188344): each pixel gets that of its neighbour up and to the left. Without padding it is right.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, PADDING = 3, 1


class AveragePool(nn.AvgPool2d):
    """avg_pool_3x3: the mean of those of 3x3 pixels that lie inside the map, [B, C, H, W] -> [B, C, H / stride, W / stride]."""

    def __init__(self, stride: int = 1):
        super().__init__(SIZE, stride, PADDING, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The means; on a GPU with the gradient that this module's text asks for."""
        return _AveragePool.apply(x, self.stride) if x.is_cuda else super().forward(x)


def average(x: Tensor, stride: int) -> Tensor:
    """The same as a function."""
    return F.avg_pool2d(x, SIZE, stride, PADDING, count_include_pad=False)


def average_backward(gradient: Tensor, like: Tensor, stride: int) -> Tensor:
    """Gradient of what `average` was given, a map like `like`."""
    if like.is_cuda:
        return without_padding(gradient, like, stride)
    options = [SIZE] * 2, [stride] * 2, [PADDING] * 2, False, False, None
    return torch.ops.aten.avg_pool2d_backward(gradient, like, *options)


def without_padding(gradient: Tensor, like: Tensor, stride: int) -> Tensor:
    """The same as a pooling of a map that was padded before, whose gradient torch has right."""
    images, channels, height, width = like.shape
    layout = torch.channels_last if like.stride(1) == 1 else torch.contiguous_format
    size = images, channels, height + 2 * PADDING, width + 2 * PADDING
    padded = torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)
    options = [SIZE] * 2, [stride] * 2, [0, 0], False, True, None
    gradient = gradient * _share(height, width, stride, gradient.dtype, gradient.device)
    found = torch.ops.aten.avg_pool2d_backward(gradient, padded, *options)
    return found[:, :, PADDING:-PADDING, PADDING:-PADDING].contiguous(memory_format=layout)


@cache
def _share(height: int, width: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Pixels of a window by those of them that lie inside the map, for each window; made once, for it never changes."""
    inside = F.avg_pool2d(torch.ones(1, 1, height, width, dtype=torch.float64, device=device), SIZE, stride, PADDING)
    return inside.reciprocal().to(dtype)


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, stride):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.stride = stride
        return average(x, stride)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return average_backward(gradient, x, ctx.stride), None
