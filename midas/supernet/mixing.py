"""Where the mixing weights of a node come from: static architecture parameters, or mosaic attention.

Shapes: B images, R patches, E edges that end in the node, O operations of the space, K candidates that have a map (all but
"none"), C channels, d = C dimensions of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from midas.settings import Method
from midas.spaces import CellSpec, Space
from midas.supernet.mixture import Candidate, mixture
from midas.supernet.topology import DISTRIBUTIONS


class Weights(NamedTuple):
    """Mixing weights of one node.

    Attributes:
        p: [B, E, O], or [1, E, O] if they are the same for all images.
        pi: weights of the pairs of edges [B or 1, pairs], None without pairs.
        patches: weights of each patch [B, R, E, O], None for static weights.
        grid: patches down and across the node's map.
    """

    p: Tensor
    pi: Tensor | None
    patches: Tensor | None = None
    grid: tuple[int, int] = (1, 1)


class NodeSlots(nn.Module):
    """Which (edge, operation) of a node are offered, and where they lie in a flat [E * O].

    Attributes:
        edges: indices of the node's incoming edges.
        sources: the nodes that they come from.
        keys: (edge, operation) of the candidates that have a map, in order.
        mapped: their places in [E * O].
        none: places of the "none" candidates.
        missing: places of operations that their edge doesn't offer.
        places: `mapped` as a tensor.
        order: for each place, where it lies in (mapped, none, missing).
        operation: number of each candidate's operation.
    """

    places: Tensor
    order: Tensor
    operation: Tensor

    def __init__(self, spec: CellSpec, operations: tuple[str, ...], node: int):
        super().__init__()
        self.edges = spec.incoming(node)
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
        # tensors on the device: a list as an index is sent there each time
        places = torch.tensor([*self.mapped, *self.none, *self.missing])
        self.register_buffer("order", places.argsort(), persistent=False)
        self.register_buffer("places", torch.tensor(self.mapped), persistent=False)
        self.register_buffer("operation", torch.tensor(self.mapped) % len(operations), persistent=False)


def distribution_of(method: Method, space: Space) -> str:
    """The softmax set of a method on a space, its default resolved."""
    if method.distribution is not None:
        return method.distribution
    return "pairs" if method.weights == "attention" and space.kept_edges == 2 else "edge"


class StaticMixing(nn.Module):
    """DARTS's architecture parameters: one logit for each (edge, operation), shared by all cells of a kind and all images."""

    attends, shared = False, True

    def __init__(self, spec: CellSpec, space: Space, method: Method, channels: int):
        super().__init__()
        self.slots = {node: NodeSlots(spec, space.operations, node) for node in spec.nodes}
        self._slots = nn.ModuleList(self.slots.values())  # so that they follow to the device
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(spec.edges), len(space.operations)))
        self.distribution = DISTRIBUTIONS[distribution_of(method, space)]
        offered = torch.tensor([[o in candidates for o in space.operations] for candidates in spec.candidates])
        self.missing: Tensor
        self.register_buffer("missing", ~offered, persistent=False)

    def forward(self, node: int, *_: object) -> Weights:
        """Weights of a node, the same for all images; arguments as in `AttentionMixing.forward`, unused."""
        edges = self.slots[node].edges  # one after the other
        rows = slice(edges[0], edges[-1] + 1)
        logits = self.alpha[rows].masked_fill(self.missing[rows], -torch.inf)
        return Weights(*self.distribution(logits[None]))


class AttentionMixing(nn.Module):
    """Mosaic attention of one cell: one pair (W_Q, W_K) for each node.

    The query is a projection of the node's concatenated input, the keys are projections of the candidate maps, all
    average-pooled over each patch first; softmax inside each patch; the patches' distributions are averaged (MIDAS, equation 14).

    Args:
        spec: kind of cell.
        space: its space.
        method: options of the attention, see `Method`.
        channels: C.
    """

    attends, shared = True, False

    def __init__(self, spec: CellSpec, space: Space, method: Method, channels: int):
        super().__init__()
        self.slots = {node: NodeSlots(spec, space.operations, node) for node in spec.nodes}
        self._slots = nn.ModuleList(self.slots.values())  # so that they follow to the device
        self.distribution = DISTRIBUTIONS[distribution_of(method, space)]
        self.scale = channels**-0.5 if method.scale is None else method.scale
        self.per_operation = method.keys == "per_operation"
        self.operations = space.operations
        key_count = len(space.operations) if self.per_operation else 1
        learned = method.projections == "learned"
        self.query, self.key, self.none = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for node, slots in self.slots.items():
            name = str(node)
            self.query[name] = _projection(learned, channels, len(slots.edges) * channels)
            self.key[name] = _projection(learned, key_count, channels, channels)
            if slots.none and method.none_logit == "learned":
                self.none[name] = nn.Parameter(torch.zeros(len(slots.none)))

    def forward(self, node: int, inputs: Sequence[Tensor], keys: Sequence[Tensor], grid: tuple[int, int]) -> Weights:
        """Weights of a node for each image.

        Args:
            node: its number.
            inputs: the maps of its E source nodes, pooled over patches, each [B, C, R].
            keys: its K candidate maps, pooled over patches, each [B, C, R], in the order of `NodeSlots.keys`.
            grid: patches down and across; R is their product.
        """
        with torch.autocast(inputs[0].device.type, enabled=False):  # logits in bfloat16 would be rounded to 3 digits
            logits = self._logits(node, torch.cat(list(inputs), 1), torch.stack(list(keys), 1))
            p, pi = self.distribution(logits)
        return Weights(p.mean(1), None if pi is None else pi.mean(1), p, grid)

    def _logits(self, node: int, inputs: Tensor, keys: Tensor) -> Tensor:
        """Logits [B, R, E, O] of inputs [B, E C, R] and keys [B, K, C, R].

        They are scale * q . k, zero or learned for "none", and -inf where an operation isn't offered.
        """
        slots, name = self.slots[node], str(node)
        query, key = self.query[name], self.key[name]
        # q . (W_K k) = (W_K^T q) . k: project the query back, not every key
        back = key.mT.flatten(0, 1) @ ((query * self.scale) @ inputs.to(query.dtype))
        back = back.unflatten(1, (-1, keys.shape[2]))
        if self.per_operation:
            back = back[:, slots.operation]
        products = (back * keys.to(query.dtype)).sum(2).transpose(1, 2)
        columns = [products]
        if slots.none:
            none = self.none[name] if name in self.none else products.new_zeros(len(slots.none))
            columns.append(none.expand(*products.shape[:2], -1))
        if slots.missing:
            columns.append(products.new_full((), -torch.inf).expand(*products.shape[:2], len(slots.missing)))
        return torch.cat(columns, -1)[..., slots.order].unflatten(-1, slots.shape)


MIXINGS: dict[str, type[StaticMixing] | type[AttentionMixing]] = {
    "static": StaticMixing,
    "attention": AttentionMixing,
}
"""Sources of weights by the key `weights` of a method.

`attends`: whether it is given pooled maps. `shared`: whether all cells of a kind have one in common.
"""


def _projection(learned: bool, *shape: int) -> nn.Parameter:
    """A bias-free projection [..., out, in], drawn as ``nn.Linear`` draws its own."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound), requires_grad=learned)


def mix_images(weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate]) -> Tensor:
    """The node's map [B, C, H, W]: its K candidates (in the order of `NodeSlots.keys`), weighted by the image's p."""
    return mixture(weights.p.flatten(1)[:, slots.places], candidates)


def mix_patches(weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate]) -> Tensor:
    """The same with each patch weighted by its own p."""
    assert weights.patches is not None
    maps = [c.map for c in candidates]
    height, width = maps[0].shape[-2:]
    factors = weights.patches.flatten(2)[..., slots.mapped].transpose(1, 2).unflatten(2, weights.grid)
    factors = factors.repeat_interleave(height // weights.grid[0], 2).repeat_interleave(width // weights.grid[1], 3)
    products = [factors[:, k, None].to(m.dtype) * m for k, m in enumerate(maps)]
    return torch.stack(products).sum(0)
