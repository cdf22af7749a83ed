"""Where the mixing weights of a node come from: static architecture parameters, or mosaic attention.

Shapes: B images, R patches, E edges that end in the node, O operations of the space, K candidates that have a map (all but
"none"), C channels, d = C dimensions of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from midas.config.settings import Method
from midas.methods.distributions import DISTRIBUTIONS
from midas.spaces import CellSpec, Space
from midas.supernet.backends import attention_of
from midas.supernet.cpu import kernels
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
    """

    p: Tensor
    pi: Tensor | None
    share: Tensor
    patches: Tensor | None = None
    grid: tuple[int, int] = (1, 1)
    means: Tensor | None = None


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
        self.register_buffer("places", torch.tensor(self.mapped), persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("unmapped", torch.tensor(self.none), persistent=False)
        self.register_buffer("operation", torch.tensor(self.mapped) % len(operations), persistent=False)

    def entries(self, by_edge: bool) -> list[tuple[int, int, int]]:
        """Weights as `kernels.Node` has them, in sets of each edge's or in one."""
        candidates = {place: number for number, place in enumerate(self.mapped)}
        places = sorted((*self.mapped, *self.none))
        return [(place, place // self.shape[1] if by_edge else 0, candidates.get(place, -1)) for place in places]

    def share(self, p: Tensor) -> Tensor:
        """[..., E, O] -> [..., K]."""
        return _Take.apply(p.flatten(-2), self.places)


def distribution_of(method: Method, space: Space) -> str:
    """The softmax set of a method on a space, its default resolved."""
    if method.distribution is not None:
        return method.distribution
    return "pairs" if method.weights == "attention" and space.kept_edges == 2 else "edge"


class StaticMixing(nn.Module):
    """DARTS's architecture parameters: one logit for each (edge, operation), shared by all cells of a kind and all images."""

    attends, shared = False, True

    def __init__(self, spec: CellSpec, space: Space, method: Method, channels: int, fast: bool):
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
        slots = self.slots[node]
        rows = slice(slots.edges[0], slots.edges[-1] + 1)  # one after the other
        logits = self.alpha[rows].masked_fill(self.missing[rows], -torch.inf)
        with torch.autocast(logits.device.type, enabled=False):
            p, pi = self.distribution(logits[None])
            return Weights(p, pi, slots.share(p))


class AttentionMixing(nn.Module):
    """Mosaic attention of one cell: one pair (W_Q, W_K) for each node.

    The query is a projection of the node's concatenated input, the keys are projections of the candidate maps, all
    average-pooled over each patch first; softmax inside each patch; the patches' distributions are averaged (MIDAS, equation 14).

    Args:
        spec: kind of cell.
        space: its space.
        method: options of the attention, see `Method`.
        channels: C.
        fast: False for torch's own operations, the same up to rounding.
    """

    attends, shared = True, False

    def __init__(self, spec: CellSpec, space: Space, method: Method, channels: int, fast: bool):
        super().__init__()
        self.slots = {node: NodeSlots(spec, space.operations, node) for node in spec.nodes}
        self._slots = nn.ModuleList(self.slots.values())  # so that they follow to the device
        distribution = distribution_of(method, space)
        self.distribution, self.pairs = DISTRIBUTIONS[distribution], distribution == "pairs"
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
        self.detach = method.detach
        self.adds_means = fast and method.mixing == "image"
        kernel = self.adds_means and not self.per_operation and not self.none
        self.entries = (
            {node: slots.entries(distribution != "node") for node, slots in self.slots.items()} if kernel else {}
        )

    def forward(self, node: int, inputs: Sequence[Tensor], keys: Sequence[Tensor], grid: tuple[int, int]) -> Weights:
        """Weights of a node for each image.

        Args:
            node: its number.
            inputs: the maps of its E source nodes, pooled over patches, each [B, R, C].
            keys: its K candidate maps, pooled over patches, each [B, R, C], in the order of `NodeSlots.keys`.
            grid: patches down and across; R is their product.
        """
        slots, name = self.slots[node], str(node)
        if self.detach:
            inputs, keys = ([x.detach() for x in maps] for maps in (inputs, keys))
        with torch.autocast(inputs[0].device.type, enabled=False):  # logits in bfloat16 would be rounded to 3 digits
            by = attention_of(self.pairs, self.query[name], *inputs, *keys) if self.entries else None
            if by is not None:
                what = (by, self.pairs, self.entries[node], len(slots.offset), self.scale)
                p, share, means, patches, pi = _Attention.apply(
                    what, self.query[name], self.key[name], len(inputs), *inputs, *keys
                )
                return Weights(p.unflatten(-1, slots.shape), pi, share, patches.unflatten(-1, slots.shape), grid, means)
            stacked = torch.stack(list(keys), 1)
            patches, pi = self.distribution(self._logits(node, torch.cat(list(inputs), 2), stacked))
            p = patches.mean(1)
            share = slots.share(p)
            means = _mixed_means(share, stacked) if self.adds_means else None
            return Weights(p, None if pi is None else pi.mean(1), share, patches, grid, means)

    def _logits(self, node: int, inputs: Tensor, keys: Tensor) -> Tensor:
        """Logits [B, R, E, O] of inputs [B, R, E C] and keys [B, K, R, C].

        They are scale * q . k, zero or learned for "none", and -inf where an operation isn't offered.
        """
        slots, name = self.slots[node], str(node)
        query, key = self.query[name], self.key[name]
        # q . (W_K k) = (W_K^T q) . k: project the query back, not every key
        back = (inputs.to(query.dtype) @ (self.scale * query).mT) @ key.transpose(0, 1).flatten(1)
        back = back.unflatten(2, (-1, keys.shape[3]))  # [B, R, O or 1, C]
        if self.per_operation:
            back = back[:, :, slots.operation]
        products = (back.transpose(1, 2) * keys.to(query.dtype)).sum(3).mT
        logits = _Put.apply(products, slots.places, slots.offset)
        if name in self.none:
            logits = logits + logits.new_zeros(len(slots.offset)).index_put((slots.unmapped,), self.none[name])
        return logits.unflatten(-1, slots.shape)


MIXINGS: dict[str, type[StaticMixing] | type[AttentionMixing]] = {
    "static": StaticMixing,
    "attention": AttentionMixing,
}
"""Sources of weights by the key `weights` of a method.

`attends`: whether it is given pooled maps. `shared`: whether all cells of a kind have one in common.
"""


class _Attention(torch.autograd.Function):
    """A node by the kernels: p [B, E O], share [B, K], means of the mixture [B, R, C], weights of patches [B, R, E O], pi.

    pi [B, pairs] is None without pairs; it and the weights of patches are looked at alone and have no gradient.
    """

    @staticmethod
    def forward(ctx, what, query, key, edges, *rows):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        by, pairs, *known, scale = what
        node = kernels.Node(rows[:edges], rows[edges:], *known, query, key, scale)
        attended, share, means, *more = by.attend_pairs(node) if pairs else by.attend(node)
        pi, ctx.each = more or (None, None)
        ctx.save_for_backward(query, key, *attended, *rows)
        ctx.what, ctx.edges = what, edges
        ctx.mark_non_differentiable(*(x for x in (attended.weights, pi) if x is not None))
        return attended.p, share, means, attended.weights, pi

    @staticmethod
    def backward(ctx, for_p, for_share, for_means, *_):  # type: ignore[no-untyped-def]
        query, key, weights, p, projected, *rows = ctx.saved_tensors
        by, pairs, *known, scale = ctx.what
        node = kernels.Node(rows[: ctx.edges], rows[ctx.edges :], *known, query, key, scale)
        attended, given = kernels.Attended(weights, p, projected), (for_p, for_share, for_means)
        learn = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        if pairs:
            found = by.attend_pairs_backward(node, attended, ctx.each, *given, learn)
        else:
            found = by.attend_backward(node, attended, *given, learn)
        return None, *found[2:], None, *found[0].unbind(0), *found[1].unbind(0)


def _mixed_means(share: Tensor, keys: Tensor) -> Tensor:
    """Means over patches [B, R, C] of a mixture with weights `share` [B or 1, K] of maps with means `keys` [B, K, R, C]."""
    return (share[:, None] @ keys.to(share.dtype).flatten(2)).view(-1, *keys.shape[2:])


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


class _Put(torch.autograd.Function):
    """`others` [n] at all places but those of x [..., k]."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor, others: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(places)
        return others.to(x.dtype).expand(*x.shape[:-1], -1).contiguous().index_copy_(-1, places, x)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        (places,) = ctx.saved_tensors
        return gradient[..., places], None, None


def _projection(learned: bool, *shape: int) -> nn.Parameter:
    """A bias-free projection [..., out, in], drawn as ``nn.Linear`` draws its own."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound), requires_grad=learned)


def mix_images(weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate]) -> Tensor:
    """The node's map [B, C, H, W]: its K candidates (in the order of `NodeSlots.keys`), weighted by the image's p."""
    return mixture(weights.share, candidates)


def mix_patches(weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate]) -> Tensor:
    """The same with each patch weighted by its own p."""
    assert weights.patches is not None
    maps = [c.map for c in candidates]
    height, width = maps[0].shape[-2:]
    factors = slots.share(weights.patches).transpose(1, 2).unflatten(2, weights.grid)
    factors = factors.repeat_interleave(height // weights.grid[0], 2).repeat_interleave(width // weights.grid[1], 3)
    products = [factors[:, k, None].to(m.dtype) * m for k, m in enumerate(maps)]
    return torch.stack(products).sum(0)
