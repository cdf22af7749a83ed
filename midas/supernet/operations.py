"""Modules of the candidate operations, each for n edges that leave one node.

A convolution has the edges side by side: depthwise n C channels, pointwise n groups, dense C to n C channels. The batch
normalisation that ends a candidate is left to the mixture, which is linear in the raw map: only mean and variance are taken here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from midas.networks.depthwise import Depthwise
from midas.networks.operations import noise
from midas.networks.pooling import AveragePool
from midas.supernet.mixture import average_pool


def batch_norm(channels: int, running: bool = False) -> nn.BatchNorm2d:
    """BatchNorm of the search: no affine parameters, the batch's own statistics, in evaluation perhaps running ones."""
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=running)


class Dense(nn.Module):
    """nor_conv_kxk of n edges (NAS-Bench-201): ReLU-Conv(-BN) as one convolution from C to n C channels."""

    normalised = True

    def __init__(self, channels: int, edges: int, stride: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, edges * channels, size, stride, size // 2, bias=False)

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        return self.conv(active)


class Separable(nn.Module):
    """sep_conv or dil_conv of n edges: (ReLU, depthwise, pointwise, BN), once (dil) or twice (sep; the stride comes first)."""

    normalised = True

    def __init__(
        self, channels: int, edges: int, stride: int, size: int, dilation: int, repeats: int, fast: bool = True
    ):
        super().__init__()
        width = edges * channels
        # stride 2 and dilation 2 read every second pixel alone: on those it is a plain convolution, many times faster
        self.every = 2 if stride == dilation == 2 else 1
        stride, dilation = stride // self.every, dilation // self.every
        layers: list[nn.Module] = []
        for step in range(repeats):
            first = Depthwise(width, size, stride if step == 0 else 1, dilation, fast)
            pointwise = nn.Conv2d(width, width, 1, groups=edges, bias=False)
            layers += [first, pointwise, batch_norm(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-2])
        self.width = width

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        return self.layers(wide[:, : self.width, :: self.every, :: self.every])


class Reduction(nn.Module):
    """skip_connect of n edges at stride 2: DARTS's factorized reduction."""

    normalised = True

    def __init__(self, channels: int, edges: int):
        super().__init__()
        widths = (channels // 2, channels - channels // 2)
        self.halves = nn.ModuleList(nn.Conv2d(channels, edges * width, 1, 2, bias=False) for width in widths)
        self.edges = edges

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        shifted = active[:, :, 1:, 1:]
        halves = [
            conv(x).unflatten(1, (self.edges, -1)) for conv, x in zip(self.halves, (active, shifted), strict=True)
        ]
        return torch.cat(halves, 2).flatten(1, 2)


class Skip(nn.Module):
    """skip_connect at stride 1: the node's map itself, for all edges."""

    normalised = False

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        return raw


class Pooling(nn.Module):
    """max_pool_3x3 or avg_pool_3x3, once for all edges; in DARTS's search followed by BN."""

    def __init__(self, kind: str, channels: int, stride: int, normalised: bool, fast: bool = True):
        super().__init__()
        self.normalised, self.stride = normalised, stride
        self.by_hand = fast and kind == "avg"
        self.pool = nn.MaxPool2d(3, stride, 1) if kind == "max" else AveragePool(stride)

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        return average_pool(raw, self.stride) if self.by_hand else self.pool(raw)


class Noise(nn.Module):
    """noise of n edges (RobustDARTS S4): standard normal, drawn for each edge by itself."""

    normalised = False

    def __init__(self, edges: int, stride: int):
        super().__init__()
        self.edges, self.stride = edges, stride

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `make_candidate`."""
        return noise(raw, self.stride, self.edges)


def make_candidate(
    operation: str, channels: int, edges: int, stride: int, pool_norm: bool, fast: bool = True
) -> nn.Module:
    """The module of one operation on n edges: (raw, relu(raw), relu(raw) repeated per edge) -> [B, n C or C, H, W]."""
    if operation.startswith("nor_conv"):
        return Dense(channels, edges, stride, size=int(operation[-1]))
    if operation.startswith("sep_conv"):
        return Separable(channels, edges, stride, size=int(operation[-1]), dilation=1, repeats=2, fast=fast)
    if operation.startswith("dil_conv"):
        return Separable(channels, edges, stride, size=int(operation[-1]), dilation=2, repeats=1, fast=fast)
    if operation in ("max_pool_3x3", "avg_pool_3x3"):
        return Pooling(operation[:3], channels, stride, pool_norm, fast)
    if operation == "noise":
        return Noise(edges, stride)
    if operation == "skip_connect":
        return Skip() if stride == 1 else Reduction(channels, edges)
    raise ValueError(f"operation {operation!r} has no form in the supernet")


MakeCandidate = Callable[[str, int, int, int, bool, bool], nn.Module]
"""Like `make_candidate`, for the operations of a space."""
