"""One cell of the supernet: its candidates, and how they are mixed node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from midas.spaces import Space
from midas.supernet.beside.partial import REST, PartialCandidates, shuffled
from midas.supernet.beside.skips import NodeSkips, SkipWeight
from midas.supernet.candidates import Candidates
from midas.supernet.mixture import Candidate, mixture
from midas.supernet.operations import MakeCandidate, make_candidate
from midas.supernet.patches import Grid, patch_grid
from midas.supernet.weights import Change, Mixing, Place, Source, Weights


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
        make: MakeCandidate = make_candidate,
    ):
        super().__init__()
        self.spec, self.patch_size, self.mixing = space.cells[kind], mixing.patch_size, source
        self.places = {node: Place(number, kind, node, slots.rows) for node, slots in source.slots.items()}
        spec = self.spec
        self.preprocess = nn.ModuleList(preprocess)
        sources = sorted({source for source, _ in spec.edges})
        self.parts = mixing.parts
        how = (channels // self.parts, space.pool_norm, merged, fast, make)
        kind_of_candidates = Candidates if self.parts == 1 else PartialCandidates
        self.candidates = nn.ModuleList(kind_of_candidates(spec, source, *how) for source in sources)
        self.skip_weight: SkipWeight | None = None
        self.skips: dict[int, NodeSkips] = {}
        self.mix = mixing.mix
        self.concatenates = space.family != "nas_bench_201"
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
        """Map of the cell from its input nodes' maps: the nodes that it puts out side by side (DARTS), or the last one."""
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
            skips = self.skips[node](found, self.skip_weight.now, chosen) if self.skip_weight else None
            mixes = candidates or skips
            output = self.mix(weights, slots, candidates, skips) if mixes else self._nothing(states[0], weights)
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
        return torch.cat([states[node] for node in self.spec.put_out], 1) if self.concatenates else states[-1]

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
