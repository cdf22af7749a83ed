"""What mixes a node: the (edge, operation) that it is offered, a source of weights, the weights, and maps mixed with them.

Shapes: B images, R patches, E edges that end in the node, O operations of the space, K candidates that have a map (all but
"none"), C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midas.spaces import CellSpec, Space
from midas.supernet.mixture import Candidate, mixture


class Weights(NamedTuple):
    """Mixing weights of one node.

    Attributes:
        p: [B, E, O], or [1, E, O] if they are the same for all images.
        pi: weights of the pairs of edges [B or 1, pairs], None without pairs.
        share: those of p that belong to a candidate with a map [B or 1, K].
        patches: weights of each patch [B, R, E, O], None for static weights.
        grid: patches down and across the node's map.
        means: the means over patches [B, R, C] of the mixture that the image's weights make, where they are known.
        edges: weights of the edges [E], by which `share` and `patches` are multiplied and p is not; None without.
        bare: a scalar that is added to the node's map.
    """

    p: Tensor
    pi: Tensor | None
    share: Tensor
    patches: Tensor | None = None
    grid: tuple[int, int] = (1, 1)
    means: Tensor | None = None
    edges: Tensor | None = None
    bare: Tensor | None = None

    @property
    def product(self) -> Tensor:
        """Weights of operations times those of their edges, of the shape of p: what a cell is decoded by."""
        return self.p if self.edges is None else self.p * self.edges[:, None]

    def weighed(self, edges: Tensor, slots: NodeSlots) -> Weights:
        """With weights of the edges [E] beside; what was known of the mixture no longer holds."""
        patches = None if self.patches is None else self.patches * edges[:, None]
        share = slots.share(self.p * edges[:, None])
        return self._replace(share=share, patches=patches, means=None, edges=edges)

    def changed(self, p: Tensor, slots: NodeSlots) -> Weights:
        """With other weights p of the image; those of patches and pairs stay, what was known of the mixture no longer holds."""
        return self._replace(p=p, share=slots.share(p), means=None)


class Skips(NamedTuple):
    """Extra skip connections of the E edges that end in a node, which no weight p belongs to; see `skips`.

    Attributes:
        weight: of each, a tensor [].
        onto: 1 at the candidates [K] that are the same map, 0 elsewhere.
        apart: the maps of all others.
        maps: the maps of all.
    """

    weight: Tensor
    onto: Tensor
    apart: Sequence[Candidate]
    maps: Sequence[Candidate]

    def beside(self, share: Tensor) -> Tensor:
        """Weights [B or 1, K + those apart] of the candidates and of the maps apart from those of the candidates [B or 1, K]."""
        own = self.weight.to(share.dtype)
        return torch.cat([share + own * self.onto, own.expand(len(share), len(self.apart))], 1)

    def onto_map(self, mixed: Tensor) -> Tensor:
        """The node's map [B, C, H, W] from the mixture without them."""
        for skip in self.maps:
            mixed = mixed + self.weight.to(mixed.dtype) * skip.map
        return mixed

    def means(self, means: Tensor | None) -> Tensor | None:
        """Means over patches [B, R, C] of the node's map from those of the mixture without them, where these are known."""
        for skip in self.maps:
            if means is None or skip.pooled is None:
                return None
            means = means + self.weight * skip.pooled
        return means


class Place(NamedTuple):
    """Where weights mix.

    Attributes:
        cell: number of the cell in the supernet.
        kind: its kind.
        node: number of the node.
        edges: the node's incoming edges among those of the cell, which lie one after the other.
    """

    cell: int
    kind: str
    node: int
    edges: slice


class Change:
    """What becomes of the weights of every node before they mix, for as long as a supernet holds it (`Supernet.changed`)."""

    def begin(self) -> None:
        """A forward pass begins: what is drawn is drawn anew."""

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """New weights of a node from p [B or 1, E, O], of the same shape."""
        raise NotImplementedError


class NodeSlots(nn.Module):
    """Which (edge, operation) of a node are offered, and where they lie in a flat [E * O].

    Attributes:
        edges: indices of the node's incoming edges.
        rows: the same as a slice, since they lie one after the other.
        sources: the nodes that they come from.
        keys: (edge, operation) of the candidates that have a map, in order.
        mapped: their places in [E * O].
        none: places of the "none" candidates.
        missing: places of operations that their edge doesn't offer.
        places: `mapped` as a tensor.
        offset: logit of a place that no candidate has [E * O]: 0, -inf where an operation is missing.
        operation: number of each candidate's operation.
        unmapped: `none` as a tensor.
    """

    places: Tensor
    offset: Tensor
    operation: Tensor
    unmapped: Tensor

    def __init__(self, spec: CellSpec, operations: tuple[str, ...], node: int):
        super().__init__()
        self.edges = spec.incoming(node)
        self.rows = slice(self.edges[0], self.edges[-1] + 1)
        self.sources = [spec.edges[edge][0] for edge in self.edges]
        self.shape = (len(self.edges), len(operations))
        self.keys: list[tuple[int, str]] = []
        self.mapped: list[int] = []
        self.none: list[int] = []
        for row, edge in enumerate(self.edges):
            for operation in operations:
                if operation in spec.candidates[edge]:
                    place = row * len(operations) + operations.index(operation)
                    (self.none if operation == "none" else self.mapped).append(place)
                    if operation != "none":
                        self.keys.append((edge, operation))
        self.missing = sorted(set(range(self.shape[0] * self.shape[1])) - {*self.mapped, *self.none})
        offset = torch.zeros(self.shape[0] * self.shape[1])
        offset[self.missing] = -torch.inf
        # tensors on the device: a list as an index is sent there each time
        mapped = torch.tensor(self.mapped, dtype=torch.int64)  # there may be none
        self.register_buffer("places", mapped, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("unmapped", torch.tensor(self.none), persistent=False)
        self.register_buffer("operation", mapped % len(operations), persistent=False)

    def entries(self, by_edge: bool) -> list[tuple[int, int, int]]:
        """Weights as `node.Node` has them, in sets of each edge's or in one."""
        candidates = {place: number for number, place in enumerate(self.mapped)}
        places = sorted((*self.mapped, *self.none))
        return [(place, place // self.shape[1] if by_edge else 0, candidates.get(place, -1)) for place in places]

    def share(self, p: Tensor) -> Tensor:
        """[..., E, O] -> [..., K]."""
        return _Take.apply(p.flatten(-2), self.places)


class Source(nn.Module):
    """Where the mixing weights of a kind of cell come from; `midas.methods` has them.

    Attributes:
        attends: whether its weights depend on the maps.
        projects_maps: whether it is given maps as they are (`of_maps`), not their means over patches (`forward`).
        chooses: whether candidates may have no weight in a pass (`chosen`).
        slots: what each node is offered.
        edges: makes weights [E] of the edges that end in a node, from their slice among those of the cell; None: all are 1.
    """

    attends: bool
    projects_maps: bool = False
    chooses: bool = False

    def __init__(self, spec: CellSpec, space: Space):
        super().__init__()
        self.slots = {node: NodeSlots(spec, space.operations, node) for node in spec.nodes}
        self._slots = nn.ModuleList(self.slots.values())  # so that they follow to the device
        self.edges: nn.Module | None = None

    def begin(self, epoch: Tensor, whole: bool) -> None:
        """A forward pass begins: what is drawn is drawn anew.

        Args:
            epoch: that the search is in, from 0: a tensor [], see `Supernet`.
            whole: whether all candidates are computed, also those that have no weight in it.
        """

    def chosen(self) -> set[tuple[int, str]] | None:
        """(edge, operation) of the candidates that have a weight in this pass; None: all. `Weights.share` is then theirs."""
        return None

    def settled(self, node: int) -> Tensor | None:
        """Weights [1, E, O] of a node that are decoded in the place of drawn ones; None: those of the passes are."""
        return None

    def forward(self, node: int, inputs: Sequence[Tensor], keys: Sequence[Tensor], grid: tuple[int, int]) -> Weights:
        """Weights of a node for each image.

        Args:
            node: its number.
            inputs: the maps of its E source nodes, pooled over patches, each [B, R, C]; None if it doesn't attend.
            keys: its K candidate maps, likewise, in the order of `NodeSlots.keys`.
            grid: patches down and across; R is their product.
        """
        raise NotImplementedError

    def of_maps(
        self, node: int, inputs: Sequence[Tensor], candidates: Sequence[Candidate], grid: tuple[int, int]
    ) -> Weights:
        """The same from the maps of its source nodes [B, C, H, W] (H, W may be twice a candidate's) and its candidates."""
        raise NotImplementedError

    def learns(self) -> list[tuple[list[nn.Parameter], dict[str, Any]]]:
        """Its trained parameters, with what an optimiser does otherwise with them than the search says."""
        return [([p for p in self.parameters() if p.requires_grad], {})]


def mix_images(
    weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate], skips: Skips | None = None
) -> Tensor:
    """The node's map [B, C, H, W]: its K candidates (in the order of `NodeSlots.keys`), weighted by the image's p."""
    if skips is None:
        return mixture(weights.share, candidates)
    return mixture(skips.beside(weights.share), [*candidates, *skips.apart])


def mix_patches(
    weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate], skips: Skips | None = None
) -> Tensor:
    """The same with each patch weighted by its own p."""
    assert weights.patches is not None
    maps = [c.map for c in candidates]
    height, width = maps[0].shape[-2:]
    factors = slots.share(weights.patches).transpose(1, 2).unflatten(2, weights.grid)
    factors = factors.repeat_interleave(height // weights.grid[0], 2).repeat_interleave(width // weights.grid[1], 3)
    products = [factors[:, k, None].to(m.dtype) * m for k, m in enumerate(maps)]
    mixed = torch.stack(products).sum(0)
    return mixed if skips is None else skips.onto_map(mixed)


MakeSource = Callable[[CellSpec, int, bool], Source]
Mix = Callable[[Weights, NodeSlots, Sequence[Candidate], Skips | None], Tensor]


class Mixing(NamedTuple):
    """What a supernet asks of a method.

    Attributes:
        source: makes the source of a kind of cell with C channels; the last argument is False for torch's own operations.
        shared: whether all cells of a kind have one source in common.
        mix: a node's map [B, C, H, W] from its weights, its candidates and its extra skip connections, if there are any.
        patch_size: side of a patch in pixels, None for the whole map.
        parts: operations see one of so many parts of a map's channels, see `partial`.
        skip: weight of an extra skip connection on every edge by the epoch, a tensor []; None: there are none.
    """

    source: MakeSource
    shared: bool
    mix: Mix
    patch_size: int | None = None
    parts: int = 1
    skip: Callable[[Tensor], Tensor] | None = None


class _Take(torch.autograd.Function):
    """x[..., places] of different places, whose gradient needn't be added up as that of any index must."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return x[..., places]

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(-1, places, gradient), None
