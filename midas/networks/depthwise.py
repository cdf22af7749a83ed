"""Depthwise convolution whose gradients take the fast kernels of oneDNN, the library under torch's convolutions on a CPU.

oneDNN computes these gradients as those of a dense convolution, 16 times the work and more, where a kernel is wider than 3 or
dilated (gradient of the weights), or dilated (gradient of the input); in bfloat16 at stride 2 too. All of them can be said in
terms of what is fast: kernels of any height and a width of up to 3, without dilation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FAST_WIDTH = 3
"""Widest kernel whose gradient is fast."""


class Depthwise(nn.Conv2d):
    """Depthwise convolution without bias: [B, C, H, W] -> [B, C, H / stride, W / stride]."""

    def __init__(self, channels: int, size: int, stride: int = 1, dilation: int = 1, fast: bool = True):
        padding = dilation * (size // 2)
        super().__init__(channels, channels, size, stride, padding, dilation, groups=channels, bias=False)
        self.fast = fast

    def forward(self, x: Tensor) -> Tensor:
        """The convolution, its gradients as this module's text says on a CPU."""
        if self.fast and x.device.type == "cpu":
            return depthwise(x, self.weight, self.stride[0], self.dilation[0])
        return super().forward(x)


def depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Depthwise convolution of x [B, C, H, W] with weight [C, 1, k, k], k odd, padded so that stride 1 keeps the size."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    return _Depthwise.apply(x, weight, stride, dilation)


def use_own_gradients(network: nn.Module, fast: bool) -> None:
    """Whether the depthwise convolutions of a network take their gradients from this module or from torch."""
    for module in network.modules():
        if isinstance(module, Depthwise):
            module.fast = fast


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            for_x = input_gradient(gradient, x, weight, ctx.stride, ctx.dilation)
        if ctx.needs_input_grad[1]:
            for_weight = weight_gradient(gradient, x, weight, ctx.stride, ctx.dilation)
            if for_weight.stride() != weight.stride():  # which DistributedDataParallel expects
                for_weight = torch.empty_like(weight).copy_(for_weight)
        return for_x, for_weight, None, None


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Gradient with respect to x."""
    if stride == 1:  # the transpose of a convolution at stride 1 is one with the kernel turned by 180 degrees
        return _convolve(gradient, weight.flip(2, 3), 1, dilation)
    wide = torch.promote_types(x.dtype, torch.float32)  # bfloat16 has no fast kernel at stride 2
    shape = torch.empty_like(x, dtype=wide)  # the values don't matter
    padding = dilation * (weight.shape[-1] // 2)
    found, _ = _gradients(gradient.to(wide), shape, weight.to(wide), stride, padding, dilation, (True, False))
    return found.to(x.dtype)


def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Gradient with respect to the weight."""
    size, even = weight.shape[-1], x.shape[-2] % 2 == x.shape[-1] % 2 == 0
    if stride == 1 and dilation == 2 and even:  # pixels of one parity in rows and columns meet their like alone
        found = weight_gradient(_by_parity(gradient), _by_parity(x), weight.repeat(2, 1, 1, 1), 1, 1)
        return found.unflatten(0, (2, -1)).sum(0)
    if size != 5 or dilation != 1:
        padding = dilation * (size // 2)
        return _gradients(gradient, x, weight, stride, padding, dilation, (False, True))[1]
    # columns 0 to 2 and 2 to 4 of the kernel: each is a kernel of its own on an input padded by hand
    narrow, beside, around = weight[..., :FAST_WIDTH].contiguous(), size - FAST_WIDTH, size // 2
    left, right = (
        _gradients(gradient, F.pad(x, (*sides, around, around)), narrow, stride, 0, 1, (False, True))[1]
        for sides in ((beside, 0), (0, beside))
    )
    return torch.cat([left, right[..., 1:]], -1)


def _by_parity(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [2 B, 2 C, H / 2, W / 2]: even and odd rows become images, even and odd columns channels.

    Channels last, columns are a matter of reading the memory, and rows are copied in one piece.
    """
    pixels = x.permute(0, 2, 3, 1)  # [B, H, W, C]
    batch, height, width, channels = pixels.shape
    rows = pixels.reshape(batch, height // 2, 2, width // 2, 2 * channels).transpose(1, 2)
    return rows.flatten(0, 1).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Torch's gradients with respect to x and weight; None for what isn't wanted."""
    found = torch.ops.aten.convolution_backward(
        *(gradient, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0]),
        *(len(weight), [*wanted, False]),
    )
    return found[0], found[1]
