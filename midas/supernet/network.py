"""The cells of the search and the network that they form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midas.networks.operations import FactorizedReduce, ReLUConvBN
from midas.networks.skeletons import SKELETONS
from midas.spaces import Space
from midas.supernet import backends
from midas.supernet.candidates import Candidates, batch_norm
from midas.supernet.mixture import Candidate, mixture
from midas.supernet.partial import REST, PartialCandidates, shuffled
from midas.supernet.patches import Grid, patch_grid
from midas.supernet.skips import NodeSkips, SkipWeight, own_stream
from midas.supernet.weights import Change, Mixing, Place, Source, Weights, mix_patches


class NodeView(NamedTuple):
    """What an observer of a cell is shown of one node.

    Attributes:
        node: its number.
        keys: (edge, operation) of its candidates.
        candidates: they themselves.
        weights: its weights.
        output: its map [B, C, H, W].
    """

    node: int
    keys: list[tuple[int, str]]
    candidates: list[Candidate]
    weights: Weights
    output: Tensor


class SearchCell(nn.Module):
    """One cell of the supernet.

    Attributes:
        changes: of its weights before they mix, in this order; see `Supernet.changed`.
        p: mixing weights of the last forward pass, detached: [B or 1, edges, operations]; weights of edges are not in them.
        edges: weights of edges of the last forward pass, detached: [edges], None without.
        pi: weights of the pairs of edges [B or 1, pairs], None without pairs.
        observer: called with a `NodeView` of each node, if set.
    """

    def __init__(
        self,
        number: int,
        kind: str,
        space: Space,
        source: Source,
        mixing: Mixing,
        preprocess: list[nn.Module],
        channels: int,
        merged: bool,
        fast: bool,
    ):
        super().__init__()
        self.spec, self.patch_size, self.mixing = space.cells[kind], mixing.patch_size, source
        self.places = {node: Place(number, kind, node, slots.rows) for node, slots in source.slots.items()}
        spec = self.spec
        self.preprocess = nn.ModuleList(preprocess)
        sources = sorted({source for source, _ in spec.edges})
        self.parts = mixing.parts
        how = (channels // self.parts, space.pool_norm, merged, fast)
        make = Candidates if self.parts == 1 else PartialCandidates
        self.candidates = nn.ModuleList(make(spec, source, *how) for source in sources)
        self.skip_weight: SkipWeight | None = None
        self.skips: dict[int, NodeSkips] = {}
        self.mix = mixing.mix
        self.concatenates = space.family == "darts"
        self.changes: list[Change] = []
        self.p: Tensor | None = None
        self.edges: Tensor | None = None
        self.pi: Tensor | None = None
        self.observer: Callable[[NodeView], None] | None = None

    def add_skips(self, weight: SkipWeight) -> None:
        """Have an extra skip connection on all edges, which takes no part in the weights p."""
        self.skip_weight = weight
        for candidates in self.candidates:
            assert isinstance(candidates, Candidates)
            candidates.add_skips()
        self.skips = {node: NodeSkips(self.spec, slots) for node, slots in self.mixing.slots.items()}
        self._skips = nn.ModuleList(self.skips.values())  # so that they follow to the device

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map of the cell from its input nodes' maps: all intermediate nodes concatenated (DARTS), or the last one."""
        inputs = tuple(module(x) for module, x in zip(self.preprocess, inputs, strict=True))
        height, width = (side // self.spec.stride for side in inputs[0].shape[-2:])
        grid = patch_grid(height, width, self.patch_size)
        pools = self.mixing.attends and not self.mixing.projects_maps
        chosen = self.mixing.chosen()
        states: list[Tensor] = []
        pooled: list[Tensor | None] = []
        found: dict[tuple[int, str], Candidate] = {}

        def add(state: Tensor, means: Tensor | None) -> None:
            if len(states) < len(self.candidates):
                means, offered = self.candidates[len(states)](state, means, grid if pools else None, chosen)
                found.update(offered)
            states.append(state)
            pooled.append(means)

        for state in inputs:
            add(state, None)
        record = []
        for node in self.spec.nodes:
            slots = self.mixing.slots[node]
            keys = slots.keys if chosen is None else [key for key in slots.keys if key in chosen]
            candidates = [found[key] for key in keys]
            weights = self._weigh(node, states, pooled, candidates, grid)
            for change in self.changes:
                weights = weights.changed(change(weights.p, self.places[node]), slots)
            if self.mixing.edges is not None:
                weights = weights.weighed(self.mixing.edges(slots.rows), slots)
            skips = self.skips[node](found, self.skip_weight.now) if self.skip_weight else None
            output = self.mix(weights, slots, candidates, skips) if candidates else self._nothing(states[0], weights)
            if self.parts > 1:
                rest = [found[edge, REST] for edge in slots.edges]
                edges = weights.share.new_ones(len(rest)) if weights.edges is None else weights.edges
                output = shuffled(output, mixture(edges[None], rest))
            output = output if weights.bare is None else output + weights.bare
            add(output, skips.means(weights.means) if skips else weights.means)
            record.append(weights)
            if self.observer:
                self.observer(NodeView(node, keys, candidates, weights, output))
        self._remember(record)
        return torch.cat(states[self.spec.inputs :], 1) if self.concatenates else states[-1]

    def _weigh(
        self, node: int, states: list[Tensor], pooled: list[Tensor | None], candidates: list[Candidate], grid: Grid
    ) -> Weights:
        """The weights of a node, of what its source asks for."""
        sources = self.mixing.slots[node].sources
        if self.mixing.projects_maps:
            return self.mixing.of_maps(node, [states[source] for source in sources], candidates, grid)
        return self.mixing(node, [pooled[source] for source in sources], [c.pooled for c in candidates], grid)

    def settled(self, node: int) -> Tensor | None:
        """See `Source.settled`, with the changes that are held, times the weights of the edges where there are any."""
        if (p := self.mixing.settled(node)) is None:
            return None
        for change in self.changes:
            p = change(p, self.places[node])
        edges = self.mixing.edges
        return p if edges is None else p * edges(self.places[node].edges).detach()[:, None]

    def _nothing(self, state: Tensor, weights: Weights) -> Tensor:
        """The map of a node that takes no candidate: 0, which depends on the weights with a gradient of 0."""
        stride = self.spec.stride
        return torch.zeros_like(state[:, :, ::stride, ::stride]) + weights.share.sum()

    def _remember(self, record: list[Weights]) -> None:
        self.p = torch.cat([weights.p.detach() for weights in record], 1)
        edges = [weights.edges.detach() for weights in record if weights.edges is not None]
        self.edges = torch.cat(edges) if edges else None
        pairs = [weights.pi.detach() for weights in record if weights.pi is not None]
        self.pi = torch.cat(pairs, 1) if pairs else None


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
        whole: whether candidates are computed that have no weight in a pass, as what is recorded as a CUDA graph must be.
    """

    epoch: Tensor

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
        self.whole = False
        self.cells: list[SearchCell] = []
        self._shared: dict[str, Source] = {}
        self.skeleton = SKELETONS[space.family](self._make_cell, channels, cells, classes, norm=_network_norm)
        self.kinds = [layer.kind for layer in space.skeleton(cells) if layer.kind in space.cells]
        self.skip_weight = None if mixing.skip is None else SkipWeight(mixing.skip)
        if self.skip_weight is not None:
            with own_stream():  # all other parameters are those of a supernet without
                for cell in self.cells:
                    cell.add_skips(self.skip_weight)

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
        cell = SearchCell(number, kind, self.space, source, self.mixing, preprocess, channels, self.merged, self.fast)
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


def _network_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm outside the cells: affine, and like all of the search with the batch's own statistics."""
    return nn.BatchNorm2d(channels, track_running_stats=False)
