"""The network that the cells of the search form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from midas.networks.operations import FactorizedReduce, ReLUConvBN
from midas.networks.skeletons import SKELETONS
from midas.spaces import Space
from midas.supernet import backends
from midas.supernet.beside.skips import SkipWeight, own_stream
from midas.supernet.candidates import Candidates
from midas.supernet.cell import SearchCell
from midas.supernet.operations import batch_norm, make_candidate
from midas.supernet.weights import Change, Mixing, Source, mix_patches


class Supernet(nn.Module):
    """All architectures of a space in one network.

    Args:
        space: the space.
        mixing: where mixing weights come from, and how maps are mixed with them.
        channels: initial channels C.
        cells: as the space's skeleton counts them.
        classes: number of classes.
        merged: whether convolutions of the edges that leave a node are one module, see `Candidates`.
        fast: False for torch's own normalisation, gradients and pooling, the same up to rounding.
        triton: whether a GPU takes Triton's kernels, see `backends`.

    Attributes:
        epoch: that the search is in, from 0: a tensor [], so that what is recorded follows it.
        tracked: whether running statistics are kept, and used in evaluation.
        whole: whether candidates are computed that have no weight in a pass, as what is recorded as a CUDA graph must be.
    """

    epoch: Tensor
    make_candidate = staticmethod(make_candidate)
    """The module of an operation; a space of another kind has its own."""

    def __init__(
        self,
        space: Space,
        mixing: Mixing,
        channels: int,
        cells: int,
        classes: int,
        merged: bool = False,
        fast: bool = True,
        triton: bool = False,
    ):
        super().__init__()
        self.space, self.mixing, self.merged, self.fast, self.triton = space, mixing, merged, fast, triton
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64), persistent=False)
        self.whole = self.tracked = False
        self.cells: list[SearchCell] = []
        self._shared: dict[str, Source] = {}
        self.skeleton = self._make_skeleton(channels, cells, classes)
        self.kinds = [layer.kind for layer in space.skeleton(cells) if layer.kind in space.cells]
        skip = _always if space.beside else mixing.skip
        self.skip_weight = None if skip is None else SkipWeight(skip)
        if self.skip_weight is not None:
            with own_stream():  # all other parameters are those of a supernet without
                for cell in self.cells:
                    cell.add_skips(self.skip_weight)

    def _make_skeleton(self, channels: int, cells: int, classes: int) -> nn.Module:
        """What stands around the cells, which it makes by `_make_cell`; a space of another kind has its own."""
        make = SKELETONS[self.space.family]
        return make(self._make_cell, channels, cells, classes, norm=_network_norm, space=self.space)

    def _make_cell(self, kind: str, channels_in: tuple[int, ...], channels: int, reduction_prev: bool) -> SearchCell:
        source = self._shared.get(kind) or self.mixing.source(self.space.cells[kind], channels, self.fast)
        if self.mixing.shared:
            self._shared[kind] = source
        preprocess: list[nn.Module] = [nn.Identity() for _ in channels_in]
        if self.space.family == "darts":
            older = FactorizedReduce if reduction_prev else ReLUConvBN
            preprocess = [
                older(channels_in[0], channels, norm=batch_norm),
                ReLUConvBN(channels_in[1], channels, norm=batch_norm),
            ]
        number = len(self.cells)
        how = (channels, self.merged, self.fast, self.make_candidate)
        cell = SearchCell(number, kind, self.space, source, self.mixing, preprocess, *how)
        self.cells.append(cell)
        return cell

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, H, W]."""
        for cell in self.cells:
            cell.mixing.begin(self.epoch, self.whole)
        for change in self.cells[0].changes:
            change.begin()
        with backends.triton(self.triton):
            return self.skeleton(x)

    def begin(self, epoch: Tensor) -> None:
        """An epoch begins (from 0, a tensor [])."""
        if self.skip_weight is not None:
            self.skip_weight.begin(epoch)

    def keep_statistics(self) -> None:
        """From here on keep running statistics (momentum 0.1), which each pass in training moves; not with `fast`."""
        assert not self.fast
        self.tracked = True
        for norm in [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]:
            norm.track_running_stats = True
            norm.running_mean, norm.running_var = torch.zeros(norm.num_features), torch.ones(norm.num_features)
            norm.num_batches_tracked = torch.zeros((), dtype=torch.int64)
        for cell in self.cells:
            for candidates in cell.candidates:
                if isinstance(candidates, Candidates):
                    candidates.keep_statistics()

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Within, running statistics take the place of the batch's, where they are kept; they stay as they are."""
        self.train(not self.tracked)
        try:
            yield
        finally:
            self.train()

    def hold(self, change: Change, first: bool = False) -> None:
        """From here on nodes mix with what a change makes of their weights, before or after those that are held already.

        Raises:
            ValueError: each patch mixes with its own weights, of which a change knows nothing; or candidates without a
                weight are not computed, to which it might give one.
        """
        if any(cell.mixing.chooses for cell in self.cells):
            raise ValueError("gumbel: one operation of an edge is not allowed with a change of the weights of all")
        if self.mixing.mix is mix_patches:
            raise ValueError("mixing: 'patch' is not allowed with a change of the weights of whole images")
        for cell in self.cells:
            cell.changes.insert(0 if first else len(cell.changes), change)

    def drop(self, change: Change) -> None:
        """Hold a change no longer."""
        for cell in self.cells:
            cell.changes.remove(change)

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """`hold` within a context: nothing is left of the change afterwards."""
        self.hold(change)
        try:
            yield
        finally:
            self.drop(change)

    def settled(self) -> Tensor | None:
        """Weights [1, cells, edges, operations] that are decoded where those of a pass are drawn; None where they aren't.

        What is held changes them too: what is masked is not decoded.
        """
        if self.cells[0].changes:
            found = {number: [cell.settled(node) for node in cell.spec.nodes] for number, cell in enumerate(self.cells)}
            places = list(found)
        else:  # once where cells of a kind share a source
            first = {id(cell.mixing): cell for cell in self.cells}
            found = {number: [cell.settled(node) for node in cell.spec.nodes] for number, cell in first.items()}
            places = [id(cell.mixing) for cell in self.cells]
        whole = {n: torch.cat([p for p in rows if p is not None], 1) for n, rows in found.items() if None not in rows}
        return torch.stack([whole[place] for place in places], 1) if whole else None

    def mixture(self) -> tuple[Tensor, Tensor | None]:
        """Weights of the last forward pass: p [B or 1, cells, edges, operations] and pi [B or 1, cells, pairs] or None.

        Where edges have weights, p is multiplied by them.
        """
        own = [(cell.p, cell.edges) for cell in self.cells]
        p = torch.stack([p if edges is None else p * edges[:, None] for p, edges in own if p is not None], 1)
        pairs = [cell.pi for cell in self.cells if cell.pi is not None]
        return p, torch.stack(pairs, 1) if pairs else None

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Trained parameters of the mixing: alphas, or W_Q, W_K, learned logits and scales; empty if frozen."""
        return [p for p in self._mixing_parameters() if p.requires_grad]

    def architecture_groups(self) -> list[dict[str, Any]]:
        """The same as an optimiser's groups, those together that learn alike."""
        sources = {id(cell.mixing): cell.mixing for cell in self.cells}
        groups: list[dict[str, Any]] = []
        for parameters, options in (part for source in sources.values() for part in source.learns()):
            group = next((g for g in groups if {k: v for k, v in g.items() if k != "params"} == options), None)
            if group is None:
                groups.append(group := {"params": [], **options})
            group["params"] += parameters
        return [group for group in groups if group["params"]]

    def weight_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        mixing = {id(p) for p in self._mixing_parameters()}
        return [p for p in self.parameters() if id(p) not in mixing]

    def skip_parameters(self) -> list[nn.Parameter]:
        """Those of the extra skip connections among them."""
        modules = [c.reductions for cell in self.cells for c in cell.candidates if isinstance(c, Candidates)]
        return [parameter for reductions in modules for parameter in reductions.parameters()]

    def parameters_of(self, cell: int, edge: int, operation: str) -> list[tuple[nn.Parameter, slice]]:
        """What one operation on one edge learns: parameters, and the part of each along its first axis that is its own.

        Args:
            cell: number of the cell.
            edge: index of the edge in the cell.
            operation: its name; there is an empty list for one without parameters.
        """
        searched = self.cells[cell]
        source = sorted({node for node, _ in searched.spec.edges}).index(searched.spec.edges[edge][0])
        candidates = searched.candidates[source]
        assert isinstance(candidates, Candidates)
        return candidates.parameters_of(edge, operation)

    def _mixing_parameters(self) -> list[nn.Parameter]:
        mixings = nn.ModuleList(cell.mixing for cell in self.cells)
        return list(mixings.parameters())  # shared ones once


def _always(epoch: Tensor) -> Tensor:
    """The weight of what stands beside the mixture of every edge of a space."""
    return torch.ones_like(epoch, dtype=torch.float64)


def _network_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm outside the cells: affine, and like all of the search with the batch's own statistics."""
    return nn.BatchNorm2d(channels, track_running_stats=False)
