"""Candidate operations as plain modules: what the edges of a found cell are made of.

Definitions: quark0/darts (cnn/operations.py) for the DARTS space, automl/RobustDARTS for noise,
D-X-Y/AutoDL-Projects (cell_operations.py) for NAS-Bench-201. An operation maps [B, C, H, W] to [B, C, H / stride, W / stride].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from midas.files.naming import among
from midas.networks.depthwise import Depthwise
from midas.networks.pooling import AveragePool

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of a number of channels: ``nn.BatchNorm2d`` in a found network, another one in the search."""


class ReLUConvBN(nn.Sequential):
    """ReLU, a dense convolution without bias, normalisation."""

    def __init__(
        self, channels_in: int, channels_out: int, size: int = 1, stride: int = 1, norm: Norm = nn.BatchNorm2d
    ):
        conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, norm(channels_out))


class FactorizedReduce(nn.Module):
    """Halves height and width: two 1x1 convolutions of stride 2 side by side, the second shifted by one pixel."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        half = channels_out // 2
        widths = (half, channels_out - half)
        self.halves = nn.ModuleList(nn.Conv2d(channels_in, width, 1, 2, bias=False) for width in widths)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H / 2, W / 2], for even H and W."""
        x = torch.relu(x)
        return self.norm(torch.cat([self.halves[0](x), self.halves[1](x[:, :, 1:, 1:])], 1))


class SeparableConv(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, normalisation: `repeats` times, the stride in the first."""

    def __init__(self, channels: int, size: int, stride: int, norm: Norm, dilation: int = 1, repeats: int = 1):
        layers: list[nn.Module] = []
        for step in (stride, *[1] * (repeats - 1)):
            depthwise = Depthwise(channels, size, step, dilation)
            layers += [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), norm(channels)]
        super().__init__(*layers)


class Zero(nn.Module):
    """The operation "none": zeros of the size that another operation would give."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Zeros [B, C, H / stride, W / stride]."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def noise(x: Tensor, stride: int, copies: int = 1) -> Tensor:
    """Standard normal noise [B, copies * C, H / stride, W / stride] for a map x [B, C, H, W], in its type and memory layout.

    What is drawn doesn't depend on either, so that a seed means the same for all of them.
    """
    size = [-(-side // stride) for side in x.shape[2:]]
    drawn = torch.randn(x.shape[0], copies * x.shape[1], *size, dtype=torch.float32, device=x.device)
    last = x.is_contiguous(memory_format=torch.channels_last)
    return drawn.to(x.dtype, memory_format=torch.channels_last if last else torch.contiguous_format)


class Noise(nn.Module):
    """The operation "noise" of RobustDARTS S4: standard normal noise that doesn't depend on its input's values."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Noise [B, C, H / stride, W / stride], drawn anew at each call, in evaluation too."""
        return noise(x, self.stride)


def _skip(channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, norm)


OPERATIONS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "none": lambda channels, stride, norm: Zero(stride),
    "noise": lambda channels, stride, norm: Noise(stride),
    "skip_connect": _skip,
    "max_pool_3x3": lambda channels, stride, norm: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda channels, stride, norm: AveragePool(stride),
    "sep_conv_3x3": lambda channels, stride, norm: SeparableConv(channels, 3, stride, norm, repeats=2),
    "sep_conv_5x5": lambda channels, stride, norm: SeparableConv(channels, 5, stride, norm, repeats=2),
    "dil_conv_3x3": lambda channels, stride, norm: SeparableConv(channels, 3, stride, norm, dilation=2),
    "dil_conv_5x5": lambda channels, stride, norm: SeparableConv(channels, 5, stride, norm, dilation=2),
    "nor_conv_1x1": lambda channels, stride, norm: ReLUConvBN(channels, channels, 1, stride, norm),
    "nor_conv_3x3": lambda channels, stride, norm: ReLUConvBN(channels, channels, 3, stride, norm),
}
"""Name -> makes the operation from channels, stride and normalisation."""


def make(name: str, channels: int, stride: int = 1, norm: Norm = nn.BatchNorm2d, pool_norm: bool = False) -> nn.Module:
    """The module of one operation.

    Args:
        name: a key of `OPERATIONS`.
        channels: channels C of its input and output.
        stride: 2 halves height and width.
        norm: makes the normalisation of its convolutions.
        pool_norm: whether a pooling is followed by the same normalisation, as in DARTS's search (`Space`).

    Raises:
        ValueError: there is no such operation; the message lists those there are.
    """
    if name not in OPERATIONS:
        raise ValueError(f"operation {name!r} does not exist{among(name, OPERATIONS)}")
    operation = OPERATIONS[name](channels, stride, norm)
    return nn.Sequential(operation, norm(channels)) if pool_norm and "pool" in name else operation
