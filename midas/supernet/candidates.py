"""Candidate maps of the edges that leave one node, not yet normalised.

One ReLU serves all edges, and what has no parameters is computed once. A convolution of several edges is one module with the
edges side by side, which saves launches on a GPU, or a module for each edge, whose maps stay in a CPU's cache; the modules are in
`operations`. The plain one-module-per-candidate supernet in tests/helpers/supernets/plain_supernet.py is what all of this must
equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.spaces import CellSpec
from midas.supernet.mixture import Candidate, convolved, normalised, plain, unchanged
from midas.supernet.operations import (
    Dense,
    MakeCandidate,
    Pooling,
    Reduction,
    Separable,
    Skip,
    batch_norm,
    make_candidate,
)
from midas.supernet.patches import Grid
from midas.supernet.sums import EPSILON

EXTRA = "extra_skip"
"""In the place of an operation's name: an extra skip connection; no space has it, so it can't be decoded."""


class _Split(torch.autograd.Function):
    """[B, n C, H, W] -> n times [B, C, H, W]; the gradient is gathered in the layout of the whole, which `unbind` would lose."""

    @staticmethod
    def forward(ctx, x: Tensor, parts: int) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.like = torch.empty_like(x, device="meta")
        return x.unflatten(1, (parts, -1)).unbind(1)

    @staticmethod
    def backward(ctx, *gradients: Tensor | None):  # type: ignore[no-untyped-def]
        given = next((gradient for gradient in gradients if gradient is not None), None)
        if given is None:
            return None, None
        whole = torch.empty_like(ctx.like, device=given.device, dtype=given.dtype)
        for part, gradient in zip(whole.unflatten(1, (len(gradients), -1)).unbind(1), gradients, strict=True):
            part.zero_() if gradient is None else part.copy_(gradient)
        return whole, None


class Candidates(nn.Module):
    """The candidates of all edges that leave one node, and their extra skip connections. The operation "none" has no map.

    Args:
        spec: kind of cell.
        source: the node.
        channels: channels C of every map of the cell.
        pool_norm: see `Space`.
        merged: whether convolutions of several edges are one module.
        fast: False for torch's own normalisation, gradients and pooling, the same up to rounding.
        make: the module of an operation, see `make_candidate`.

    Attributes:
        branches: operation and edges of each module of `operations`.
        skipped: edges of each extra skip connection, none without them.
    """

    def __init__(
        self,
        spec: CellSpec,
        source: int,
        channels: int,
        pool_norm: bool,
        merged: bool = False,
        fast: bool = True,
        make: MakeCandidate = make_candidate,
    ):
        super().__init__()
        stride = spec.stride if source < spec.inputs else 1
        self.channels, self.fast, self.merged = channels, fast, merged
        self.stride, self.outgoing = stride, list(spec.outgoing(source))
        offered: dict[str, list[int]] = {}
        for edge in spec.outgoing(source):
            for operation in spec.candidates[edge]:
                if operation != "none":
                    offered.setdefault(operation, []).append(edge)
        self.branches: list[tuple[str, list[int]]] = []
        self.operations = nn.ModuleList()
        for operation, edges in offered.items():
            shared = "pool" in operation or (operation == "skip_connect" and stride == 1)
            for group in [edges] if merged or shared else [[edge] for edge in edges]:
                self.branches.append((operation, group))
                self.operations.append(make(operation, channels, len(group), stride, pool_norm, fast))
        separable = [
            edges
            for (_, edges), module in zip(self.branches, self.operations, strict=True)
            if isinstance(module, Separable)
        ]
        self.copies = max(map(len, separable), default=1)
        self.skipped: list[list[int]] = []
        self.reductions = nn.ModuleList()
        self.ends: dict[int, nn.Module] = {}

    def keep_statistics(self) -> None:
        """Have running statistics of what ends the candidates; without `fast` alone, after `add_skips`."""
        groups = [*zip((edges for _, edges in self.branches), self.operations, strict=True)]
        groups += zip(self.skipped, self.reductions, strict=False)
        normalised = [(edges, module) for edges, module in groups if module.normalised]
        widths = [self.channels * (1 if isinstance(module, Pooling) else len(edges)) for edges, module in normalised]
        self.norms = nn.ModuleList(batch_norm(width, running=True) for width in widths)
        self.ends = {id(module): norm for (_, module), norm in zip(normalised, self.norms, strict=True)}

    def add_skips(self) -> None:
        """Have an extra skip connection on all edges: at stride 2 reductions with parameters of their own."""
        self.skipped = [self.outgoing] if self.merged or self.stride == 1 else [[edge] for edge in self.outgoing]
        if self.stride == 2:
            self.reductions.extend(Reduction(self.channels, len(edges)) for edges in self.skipped)

    def forward(
        self, x: Tensor, pooled: Tensor | None, grid: Grid | None, chosen: set[tuple[int, str]] | None = None
    ) -> tuple[Tensor | None, dict[tuple[int, str], Candidate]]:
        """The node's means over patches [B, R, C], and (edge, operation) -> candidate; an extra skip's operation is `EXTRA`.

        Args:
            x: the node's map [B, C, H, W].
            pooled: its means over patches where they are known already.
            grid: patches down and across a candidate's map; None (and no `pooled`) if means over patches aren't needed.
            chosen: candidates that are computed, with those that are one module with one of them; None: all.
        """
        taken = [
            (operation, edges, module)
            for (operation, edges), module in zip(self.branches, self.operations, strict=True)
            if chosen is None or any((edge, operation) in chosen for edge in edges)
        ]
        if chosen is not None and not taken and not self.skipped:
            return pooled, {}
        count = len(taken)
        uses = count + 1 + len(self.reductions)
        if self.fast:  # relu(x) once for each module, so that their gradients meet in one place
            plainly = chosen is not None and not self.reductions
            plainly = plainly and all(isinstance(module, Skip | Pooling) for *_, module in taken)
            whole, active = unchanged(x, None if pooled is not None else grid, 0 if plainly else uses)
            active = active or [whole.raw] * uses  # which nothing of these reads
            whole = whole if pooled is None else whole._replace(pooled=pooled)
        else:
            whole, active = plain(x, grid), [F.relu(x)] * uses
        wide = active[count].repeat(1, self.copies, 1, 1) if self.copies > 1 else None
        found: dict[tuple[int, str], Candidate] = {}
        for (operation, edges, module), own_active in zip(taken, active[:count], strict=True):
            own = self._candidate(module, whole, own_active, own_active if wide is None else wide, grid)
            found |= {(edge, operation): one for edge, one in zip(edges, self._split(own, len(edges)), strict=True)}
        reduced = [
            self._candidate(m, whole, a, a, grid) for m, a in zip(self.reductions, active[count + 1 :], strict=True)
        ]
        for edges, own in zip(self.skipped, reduced or [whole] * len(self.skipped), strict=True):
            found |= {(edge, EXTRA): one for edge, one in zip(edges, self._split(own, len(edges)), strict=True)}
        return whole.pooled, found

    def parameters_of(self, edge: int, operation: str) -> list[tuple[nn.Parameter, slice]]:
        """What an operation on an edge learns, see `Supernet.parameters_of`; edges of one module lie one after the other."""
        for (name, edges), module in zip(self.branches, self.operations, strict=True):
            if name == operation and edge in edges:
                place, count = edges.index(edge), len(edges)
                sizes = [len(parameter) // count for parameter in module.parameters()]
                return [(p, slice(place * n, (place + 1) * n)) for p, n in zip(module.parameters(), sizes, strict=True)]
        raise ValueError(f"edge {edge} has no operation {operation!r} with a map")

    def _candidate(
        self, module: nn.Module, whole: Candidate, active: Tensor, wide: Tensor, grid: Grid | None
    ) -> Candidate:
        if isinstance(module, Skip):
            return whole
        if self.fast and isinstance(module, Dense):
            return convolved(active, module.conv, grid)
        raw = module(whole.raw, active, wide)
        if self.fast:
            return normalised(raw, grid) if module.normalised else unchanged(raw, grid)[0]
        if module.normalised:
            end = self.ends.get(id(module))
            raw = F.batch_norm(raw, None, None, training=True, eps=EPSILON) if end is None else end(raw)
        return plain(raw, grid)

    def _split(self, whole: Candidate, edges: int) -> Iterator[Candidate]:
        if whole.raw.shape[1] == self.channels:  # one edge, or one map for all edges
            return iter([whole] * edges)
        maps = _Split.apply(whole.raw, edges)
        pooled = (None,) * edges if whole.pooled is None else whole.pooled.unflatten(2, (edges, -1)).unbind(2)
        scales, shifts = (
            (None,) * edges if x is None else x.view(edges, -1).unbind(0) for x in (whole.scale, whole.shift)
        )
        firsts = range(0, edges * self.channels, self.channels)
        return map(Candidate, maps, scales, shifts, pooled, [whole.terms] * edges, firsts)
