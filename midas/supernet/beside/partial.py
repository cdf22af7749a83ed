"""Operations that see a part of the channels of a map, while the rest goes by (PC-DARTS): split, bypass, shuffle.

Shapes: B images, C channels, k parts. A node's map is the sum over its edges of the shuffled [mixture, rest]. The shuffle is the
same for all edges, so that mixtures and rests are added first and shuffled once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midas.supernet.candidates import Candidates
from midas.supernet.mixture import Candidate, plain, unchanged
from midas.supernet.patches import Grid, pool_patches, widened

REST = "rest"
"""In the place of an operation's name: what goes by on an edge."""


def shuffled(mixed: Tensor, rest: Tensor) -> Tensor:
    """[B, C, H, W] of the parts of its channels, in turn: channel i k + j is channel j C / k + i of [mixed, rest].

    Args:
        mixed: the first part [B, C / k, H, W].
        rest: the others [B, C - C / k, H, W].
    """
    return _Shuffle.apply(mixed, rest)


def bypass(rest: Tensor, stride: int) -> Tensor:
    """What goes by on an edge: as it is, the largest of each 2x2 pixels at stride 2."""
    return rest if stride == 1 else F.max_pool2d(rest, stride, stride)


class PartialCandidates(Candidates):
    """Candidates of the first channels of a node, and what goes by, as the candidate `REST` of each edge.

    Always the first channels (a common guess: others in each step); what differs comes from the shuffle.

    Args:
        channels: channels C / k of the candidates; the others are those of `Candidates`.
    """

    def forward(
        self, x: Tensor, pooled: Tensor | None, grid: Grid | None, chosen: set[tuple[int, str]] | None = None
    ) -> tuple[Tensor | None, dict[tuple[int, str], Candidate]]:
        """See `Candidates.forward`; the means are those of all channels, `pooled` (of the mixture alone) is not used."""
        first, rest = x.split([self.channels, x.shape[1] - self.channels], 1)
        _, found = super().forward(first, None, grid, chosen)
        rest = bypass(rest, self.stride)
        other = unchanged(rest, None)[0] if self.fast else plain(rest, None)
        means = pool_patches(widened(x), grid) if grid else None
        return means, found | {(edge, REST): other for edge in self.outgoing}


class _Shuffle(torch.autograd.Function):
    """Written part by part into a map of the layout of the first, and its gradient likewise."""

    @staticmethod
    def forward(ctx, mixed, rest):  # type: ignore[no-untyped-def]
        channels, others = mixed.shape[1], rest.shape[1]
        ctx.like = torch.empty_like(mixed, device="meta"), torch.empty_like(rest, device="meta")
        shape = len(mixed), channels + others, *mixed.shape[2:]
        out = torch.empty(shape, dtype=mixed.dtype, device=mixed.device, memory_format=_layout(mixed))
        parts = out.unflatten(1, (channels, -1))
        parts[:, :, 0] = mixed
        parts[:, :, 1:] = rest.unflatten(1, (-1, channels)).transpose(1, 2)
        return out

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        for_mixed, for_rest = (torch.empty_like(like, device=gradient.device) for like in ctx.like)
        channels = for_mixed.shape[1]
        parts = gradient.unflatten(1, (channels, -1))
        for_mixed.copy_(parts[:, :, 0])
        for_rest.unflatten(1, (-1, channels)).copy_(parts[:, :, 1:].transpose(1, 2))
        return for_mixed, for_rest


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and x.stride(1) == 1
    return torch.channels_last if channels_last else torch.contiguous_format
