"""Where the mixing weights of a node come from: static architecture parameters, or mosaic attention.

Shapes: B images, R patches, E edges that end in the node, O operations of the space, K candidates that have a map (all but
"none"), C channels, d = C dimensions of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.settings import Method
from midas.spaces import CellSpec, Space
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


class NodeSlots:
    """Which (edge, operation) of a node are offered, and where they lie in a flat [E * O].

    Attributes:
        edges: indices of the node's incoming edges.
        sources: the nodes that they come from.
        keys: (edge, operation) of the candidates that have a map, in order.
        mapped: their places in [E * O].
        none: places of the "none" candidates.
    """

    def __init__(self, spec: CellSpec, operations: tuple[str, ...], node: int):
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
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(spec.edges), len(space.operations)))
        self.distribution = DISTRIBUTIONS[distribution_of(method, space)]
        offered = torch.tensor([[o in candidates for o in space.operations] for candidates in spec.candidates])
        self.missing: Tensor
        self.register_buffer("missing", ~offered, persistent=False)

    def forward(self, node: int, *_: object) -> Weights:
        """Weights of a node, the same for all images; arguments as in `AttentionMixing.forward`, unused."""
        edges = list(self.slots[node].edges)
        logits = self.alpha[edges].masked_fill(self.missing[edges], -torch.inf)
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
        dtype = self.query[name].dtype
        query = torch.einsum("dx,bxr->bdr", self.query[name], inputs.to(dtype))
        # q . (W_K k) = (W_K^T q) . k: project the query back, not every key
        back = torch.einsum("odc,bdr->bocr", self.key[name], query) * self.scale
        if self.per_operation:
            back = back[:, [place % len(self.operations) for place in slots.mapped]]
        products = (back * keys.to(dtype)).sum(2).transpose(1, 2)
        flat = products.new_full((*products.shape[:2], slots.shape[0] * slots.shape[1]), -torch.inf)
        flat[..., slots.mapped] = products
        if slots.none:
            flat[..., slots.none] = self.none.get(name, 0.0)
        return flat.unflatten(-1, slots.shape)


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


def patch_grid(height: int, width: int, patch_size: int | None) -> tuple[int, int]:
    """Patches down and across a map: one patch where the map isn't larger than a patch, or there are no patches."""
    if patch_size is None:
        return 1, 1
    return max(1, height // patch_size), max(1, width // patch_size)


def pool_patches(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean over each patch: [B, C, H, W] -> [B, C, R]. A map twice as large is pooled onto the same grid."""
    height, width = x.shape[-2:]
    assert (height % grid[0], width % grid[1]) == (0, 0), f"a {height}x{width} map has no grid {grid}"
    return F.avg_pool2d(x, (height // grid[0], width // grid[1])).flatten(2)


class _WeightedSum(torch.autograd.Function):
    """sum_k w[b, k] F_k[b], without writing a stack of the maps or a product for each."""

    @staticmethod
    def forward(ctx, weights: Tensor, *maps: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weights, *maps)
        factors = weights[:, :, None, None, None].to(maps[0].dtype).unbind(1)
        total = maps[0] * factors[0]
        for factor, candidate in zip(factors[1:], maps[1:], strict=True):
            total.addcmul_(candidate, factor)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        weights, *maps = ctx.saved_tensors
        factors = weights[:, :, None, None, None].to(gradient.dtype).unbind(1)
        needed = ctx.needs_input_grad
        for_weights = None
        if needed[0]:
            for_weights = torch.stack([(gradient * m).sum((1, 2, 3), dtype=weights.dtype) for m in maps], 1)
            for_weights = for_weights.sum_to_size(weights.shape)
        return for_weights, *(gradient * f if need else None for f, need in zip(factors, needed[1:], strict=True))


def mix_images(weights: Weights, slots: NodeSlots, maps: Sequence[Tensor]) -> Tensor:
    """The node's map [B, C, H, W]: its K candidate maps (in the order of `NodeSlots.keys`), weighted by the image's p."""
    return _WeightedSum.apply(weights.p.flatten(1)[:, slots.mapped], *maps)


def mix_patches(weights: Weights, slots: NodeSlots, maps: Sequence[Tensor]) -> Tensor:
    """The same with each patch weighted by its own p."""
    assert weights.patches is not None
    height, width = maps[0].shape[-2:]
    factors = weights.patches.flatten(2)[..., slots.mapped].transpose(1, 2).unflatten(2, weights.grid)
    factors = factors.repeat_interleave(height // weights.grid[0], 2).repeat_interleave(width // weights.grid[1], 3)
    products = [factors[:, k, None].to(m.dtype) * m for k, m in enumerate(maps)]
    return torch.stack(products).sum(0)
