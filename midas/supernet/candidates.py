"""All candidate maps of the edges that leave one node, with few large operations.

One ReLU serves all edges. Candidates of one operation on n edges are one module: its convolutions carry the edges side by
side, depthwise by n C channels, pointwise in n groups, dense from C to n C channels. What has no parameters is computed once.
The plain one-module-per-candidate supernet in tests/plain_supernet.py is what this must equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.spaces import CellSpec

Pool = Callable[[Tensor], Tensor]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm of the search: no affine parameters, always the batch's own statistics."""
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


class Dense(nn.Module):
    """nor_conv_kxk of n edges (NAS-Bench-201): ReLU-Conv-BN as one convolution from C to n C channels."""

    def __init__(self, channels: int, edges: int, stride: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, edges * channels, size, stride, size // 2, bias=False)
        self.norm = batch_norm(edges * channels)

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        return self.norm(self.conv(active))


class Separable(nn.Module):
    """sep_conv or dil_conv of n edges: (ReLU, depthwise, pointwise, BN), once (dil) or twice (sep; the stride comes first)."""

    def __init__(self, channels: int, edges: int, stride: int, size: int, dilation: int, repeats: int):
        super().__init__()
        width = edges * channels
        # stride 2 and dilation 2 read every second pixel alone: on those it is a plain convolution, many times faster
        self.every = 2 if stride == dilation == 2 else 1
        stride, dilation = stride // self.every, dilation // self.every
        layers: list[nn.Module] = []
        for step in range(repeats):
            padding = dilation * (size // 2)
            depthwise = nn.Conv2d(
                width, width, size, stride if step == 0 else 1, padding, dilation, groups=width, bias=False
            )
            pointwise = nn.Conv2d(width, width, 1, groups=edges, bias=False)
            layers += [depthwise, pointwise, batch_norm(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.width = width

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        return self.layers(wide[:, : self.width, :: self.every, :: self.every])


class Reduction(nn.Module):
    """skip_connect of n edges at stride 2: DARTS's factorized reduction."""

    def __init__(self, channels: int, edges: int):
        super().__init__()
        self.halves = nn.ModuleList(nn.Conv2d(channels, edges * channels // 2, 1, 2, bias=False) for _ in range(2))
        self.norm = batch_norm(edges * channels)
        self.edges = edges

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        shifted = active[:, :, 1:, 1:]
        halves = [
            conv(x).unflatten(1, (self.edges, -1)) for conv, x in zip(self.halves, (active, shifted), strict=True)
        ]
        return self.norm(torch.cat(halves, 2).flatten(1, 2))


class Skip(nn.Module):
    """skip_connect at stride 1: the node's map itself, for all edges."""

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        return raw


class Pooling(nn.Module):
    """max_pool_3x3 or avg_pool_3x3, once for all edges; in DARTS's search followed by BN."""

    def __init__(self, kind: str, channels: int, stride: int, norm: bool):
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride, 1) if kind == "max" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        self.norm = batch_norm(channels) if norm else nn.Identity()

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        return self.norm(self.pool(raw))


class Noise(nn.Module):
    """noise of n edges (RobustDARTS S4): standard normal, drawn for each edge by itself."""

    def __init__(self, edges: int, stride: int):
        super().__init__()
        self.edges, self.stride = edges, stride

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor) -> Tensor:
        """See `merged`."""
        small = raw[:, :, :: self.stride, :: self.stride]
        return torch.randn_like(small.repeat(1, self.edges, 1, 1))


def merged(operation: str, channels: int, edges: int, stride: int, pool_norm: bool) -> nn.Module:
    """The module of one operation on `edges` edges: (raw, relu(raw), relu(raw) repeated per edge) -> [B, n C or C, H, W]."""
    if operation.startswith("nor_conv"):
        return Dense(channels, edges, stride, size=int(operation[-1]))
    if operation.startswith("sep_conv"):
        return Separable(channels, edges, stride, size=int(operation[-1]), dilation=1, repeats=2)
    if operation.startswith("dil_conv"):
        return Separable(channels, edges, stride, size=int(operation[-1]), dilation=2, repeats=1)
    if operation in ("max_pool_3x3", "avg_pool_3x3"):
        return Pooling(operation[:3], channels, stride, pool_norm)
    if operation == "noise":
        return Noise(edges, stride)
    if operation == "skip_connect":
        return Skip() if stride == 1 else Reduction(channels, edges)
    raise ValueError(f"operation {operation!r} has no merged form in the supernet")


class _Split(torch.autograd.Function):
    """[B, n C, ...] -> n times [B, C, ...]; the gradient is gathered in the layout of the whole, which `unbind` would lose."""

    @staticmethod
    def forward(ctx, x: Tensor, parts: int) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        ctx.like = torch.empty_like(x, device="meta")
        return x.unflatten(1, (parts, -1)).unbind(1)

    @staticmethod
    def backward(ctx, *gradients: Tensor):  # type: ignore[no-untyped-def]
        whole = torch.empty_like(ctx.like, device=gradients[0].device, dtype=gradients[0].dtype)
        for part, gradient in zip(whole.unflatten(1, (len(gradients), -1)).unbind(1), gradients, strict=True):
            part.copy_(gradient)
        return whole, None


class Candidates(nn.Module):
    """The candidate maps of all edges that leave one node. The operation "none" has no map.

    Args:
        spec: kind of cell.
        source: the node.
        channels: channels C of every map of the cell.
        pool_norm: see `Space`.
    """

    def __init__(self, spec: CellSpec, source: int, channels: int, pool_norm: bool):
        super().__init__()
        stride = spec.stride if source < spec.inputs else 1
        self.channels = channels
        self.edges: dict[str, list[int]] = {}
        for edge in spec.outgoing(source):
            for operation in spec.candidates[edge]:
                if operation != "none":
                    self.edges.setdefault(operation, []).append(edge)
        self.operations = nn.ModuleDict(
            {name: merged(name, channels, len(edges), stride, pool_norm) for name, edges in self.edges.items()}
        )
        self.copies = max(
            (len(self.edges[n]) for n, m in self.operations.items() if isinstance(m, Separable)), default=1
        )

    def forward(self, x: Tensor, pool: Pool | None) -> dict[tuple[int, str], tuple[Tensor, Tensor | None]]:
        """Candidate maps and their pooled maps.

        Args:
            x: the node's map [B, C, H, W].
            pool: average pooling over patches, None where it isn't needed.

        Returns:
            (edge, operation) -> map [B, C, H', W'] and pooled map [B, C, patches].
        """
        active = F.relu(x)
        wide = active.repeat(1, self.copies, 1, 1) if self.copies > 1 else active
        found: dict[tuple[int, str], tuple[Tensor, Tensor | None]] = {}
        for name, edges in self.edges.items():
            out = self.operations[name](x, active, wide)
            maps = self._split(out, len(edges))
            pooled = self._split(pool(out), len(edges)) if pool else (None,) * len(edges)
            for edge, pair in zip(edges, zip(maps, pooled, strict=True), strict=True):
                found[edge, name] = pair
        return found

    def _split(self, x: Tensor, edges: int) -> tuple[Tensor, ...]:
        if x.shape[1] == self.channels:  # one edge, or one map for all edges
            return (x,) * edges
        return _Split.apply(x, edges)
