"""Mosaic attention as the source of mixing weights: they depend on the image, patch by patch (MIDAS).

Shapes: B images, R patches, E edges that end in the node, O operations of the space, K candidates that have a map (all but
"none"), C channels, d = C dimensions of queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from midas.config.method import Method
from midas.methods.distributions import DISTRIBUTIONS
from midas.methods.projections import activated, averaged, normalised
from midas.spaces import CellSpec, Space
from midas.supernet.backends import attention_of
from midas.supernet.mixture import Candidate, constants
from midas.supernet.node import Attended, Node
from midas.supernet.projection import projected_patches
from midas.supernet.weights import Source, Weights


class AttentionMixing(Source):
    """Mosaic attention of one cell: one pair (W_Q, W_K) for each node.

    The query is a projection of the node's concatenated input, the keys are projections of the candidate maps, all
    average-pooled over each patch first; softmax inside each patch; the patches' distributions are averaged (MIDAS, equation 14).

    Args:
        spec: kind of cell.
        space: its space.
        method: options of the attention, see `Method`.
        distribution: name of the softmax, see `distributions`.
        channels: C; candidates have C / k of them where k parts are made of a map (`partial`), and no kernel is used then.
        fast: False for torch's own operations, the same up to rounding.
    """

    attends = True

    def __init__(self, spec: CellSpec, space: Space, method: Method, distribution: str, channels: int, fast: bool):
        super().__init__(spec, space)
        self.distribution, self.pairs = DISTRIBUTIONS[distribution], distribution == "pairs"
        self.scale = channels**-0.5 if method.scale is None else method.scale
        self.method, self.per_operation = method, method.keys == "per_operation"
        self.operations = space.operations
        key_count = len(space.operations) if self.per_operation else 1
        narrow = channels // method.partial.channels if method.partial else channels
        learned = method.projections == "learned"
        self.query, self.key, self.none = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        self.log_scale = nn.ParameterDict()
        for node, slots in self.slots.items():
            name = str(node)
            self.query[name] = _projection(learned, channels, len(slots.edges) * channels)
            self.key[name] = _projection(learned, key_count, channels, narrow)
            if slots.none and method.none_logit == "learned":
                self.none[name] = nn.Parameter(torch.zeros(len(slots.none)))
            if method.learn_scale:
                self.log_scale[name] = nn.Parameter(torch.tensor(math.log(self.scale)))
        self.detach, self.fast = method.detach, fast
        self.how = method.normalise, method.activation == "relu"
        self.adds_means = fast and method.mixing == "image" and narrow == channels
        self.fast_keys = fast and narrow == channels
        kernel = self.adds_means and not (self.per_operation or self.none or self.log_scale or self.projects_maps)
        kernel = kernel and method.activation != "norm_relu"
        self.entries = (
            {node: slots.entries(distribution != "node") for node, slots in self.slots.items()} if kernel else {}
        )

    def learns(self) -> list[tuple[list[nn.Parameter], dict[str, Any]]]:
        """See `Source.learns`: projections may have a decay of their own, a learned scale has none."""
        options: dict[str, Any] = {}
        if self.method.weight_decay is not None:
            options["weight_decay"] = self.method.weight_decay
        if self.method.decoupled_weight_decay:
            options["decoupled_weight_decay"] = True
        projections = [p for p in (*self.query.values(), *self.key.values()) if p.requires_grad]
        others = [*self.none.values(), *(self.edges.parameters() if self.edges else ())]
        return [(projections, options), (others, {}), (list(self.log_scale.values()), {"weight_decay": 0.0})]

    def forward(self, node: int, inputs: Sequence[Tensor], keys: Sequence[Tensor], grid: tuple[int, int]) -> Weights:
        """See `Source.forward`."""
        slots, name = self.slots[node], str(node)
        if self.detach:
            inputs, keys = ([x.detach() for x in maps] for maps in (inputs, keys))
        with torch.autocast(inputs[0].device.type, enabled=False):  # logits in bfloat16 would be rounded to 3 digits
            by = attention_of(self.pairs, self.query[name], *inputs, *keys) if self.entries else None
            if by is not None:
                what = by, self.pairs, (self.entries[node], len(slots.offset)), (self.scale, *self.how)
                p, share, means, patches, pi = _Attention.apply(
                    what, self.query[name], self.key[name], len(inputs), *inputs, *keys
                )
                return Weights(p.unflatten(-1, slots.shape), pi, share, patches.unflatten(-1, slots.shape), grid, means)
            stacked = torch.stack(list(keys), 1)
            weights = self._weights(node, self._logits(node, torch.cat(list(inputs), 2), stacked), grid)
            return weights._replace(means=_mixed_means(weights.share, stacked) if self.adds_means else None)

    def _weights(self, node: int, logits: Tensor, grid: tuple[int, int]) -> Weights:
        """Weights of a node from logits [B, R, E, O]."""
        patches, pi = self.distribution(logits)
        p = patches.mean(1)
        return Weights(p, None if pi is None else pi.mean(1), self.slots[node].share(p), patches, grid)

    def _logits(self, node: int, inputs: Tensor, keys: Tensor) -> Tensor:
        """Logits [B, R, E, O] of inputs [B, R, E C] and keys [B, K, R, C].

        They are scale * q . k, zero or learned for "none", and -inf where an operation isn't offered.
        """
        slots, name, how = self.slots[node], str(node), self.method
        query, key = self.query[name], self.key[name]
        inputs, keys = inputs.to(query.dtype), keys.to(query.dtype)
        if how.normalise == how.activation == "none":
            # q . (W_K k) = (W_K^T q) . k: project the query back, not every key
            back = (inputs @ (self._scale(name) * query).mT) @ key.transpose(0, 1).flatten(1)
            back = back.unflatten(2, (-1, keys.shape[3]))  # [B, R, O or 1, C]
            if self.per_operation:
                back = back[:, :, slots.operation]
            return self._placed(node, (back.transpose(1, 2) * keys).sum(3).mT)
        own = key[slots.operation] if self.per_operation else key  # [K or 1, C, C]
        return self._placed(node, self._products(node, inputs @ query.mT, keys @ own.mT))

    def _products(self, node: int, queries: Tensor, keys: Tensor) -> Tensor:
        """Logits [B, R, K] of projected means over patches: queries [B, R, C] and keys [B, K, R, C]."""
        how = self.method
        if how.projected == "means":
            queries, keys = activated(queries[:, None], how.activation)[:, 0], activated(keys, how.activation)
        queries, keys = normalised(queries, how.normalise), normalised(keys, how.normalise)
        return (self._scale(str(node)) * queries[:, None] * keys).sum(3).mT

    def _scale(self, name: str) -> Tensor | float:
        """Of a node's products, learned or fixed."""
        return self.log_scale[name].exp() if name in self.log_scale else self.scale

    def _placed(self, node: int, products: Tensor) -> Tensor:
        """Logits [B, R, E, O] from those of the candidates [B, R, K]."""
        slots, name = self.slots[node], str(node)
        logits = _Put.apply(products, slots.places, slots.offset)
        if name in self.none:
            logits = logits + logits.new_zeros(len(slots.offset)).index_put((slots.unmapped,), self.none[name])
        return logits.unflatten(-1, slots.shape)


class MapAttention(AttentionMixing):
    """The same with maps projected pixel by pixel, activated, and pooled over patches only then.

    Maps that are larger than the candidates' are averaged to their size before. The query is one projection of all inputs.
    """

    projects_maps = True

    def of_maps(
        self, node: int, inputs: Sequence[Tensor], candidates: Sequence[Candidate], grid: tuple[int, int]
    ) -> Weights:
        """See `Source.of_maps`."""
        slots, name = self.slots[node], str(node)
        how, query, key = self.method.activation, self.query[name], self.key[name]
        if self.detach:
            inputs, candidates = [x.detach() for x in inputs], [c.detached() for c in candidates]
        inputs = averaged(inputs, *candidates[0].raw.shape[2:])
        query = query.unflatten(1, (len(inputs), -1)).transpose(0, 1)[None]
        queries = projected_patches(inputs, query, None, how, grid, self.fast)[0]
        with torch.autocast(inputs[0].device.type, enabled=False):
            weights, offsets = self._of_candidates(key[slots.operation] if self.per_operation else key, candidates)
        keys = projected_patches([c.raw for c in candidates], weights, offsets, how, grid, self.fast_keys)
        with torch.autocast(inputs[0].device.type, enabled=False):
            logits = self._placed(node, self._products(node, queries, keys.transpose(0, 1)))
            return self._weights(node, logits, grid)

    @staticmethod
    def _of_candidates(key: Tensor, candidates: Sequence[Candidate]) -> tuple[Tensor, Tensor]:
        """What projects the raw maps as W_K [K or 1, C, C] projects the normalised ones: weights [K, 1, C, C], offsets [K, C]."""
        one, zero = constants(key.shape[2], key.dtype, key.device)
        scales = torch.stack([one if c.scale is None else c.scale for c in candidates])
        shifts = torch.stack([zero if c.shift is None else c.shift for c in candidates])
        return (key * scales[:, None])[:, None], (key @ shifts[..., None])[..., 0]


class _Attention(torch.autograd.Function):
    """A node by the kernels: p [B, E O], share [B, K], means of the mixture [B, R, C], weights of patches [B, R, E O], pi.

    pi [B, pairs] is None without pairs; it and the weights of patches are looked at alone and have no gradient.
    """

    @staticmethod
    def forward(ctx, what, query, key, edges, *rows):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        by, pairs, known, how = what
        node = Node(rows[:edges], rows[edges:], *known, query, key, *how)
        attended, share, means, *more = by.attend_pairs(node) if pairs else by.attend(node)
        pi, ctx.each = more or (None, None)
        ctx.save_for_backward(query, key, *attended, *rows)
        ctx.what, ctx.edges = what, edges
        ctx.mark_non_differentiable(*(x for x in (attended.weights, pi) if x is not None))
        return attended.p, share, means, attended.weights, pi

    @staticmethod
    def backward(ctx, for_p, for_share, for_means, *_):  # type: ignore[no-untyped-def]
        query, key, weights, p, projected, factors, *rows = ctx.saved_tensors
        by, pairs, known, how = ctx.what
        node = Node(rows[: ctx.edges], rows[ctx.edges :], *known, query, key, *how)
        attended, given = Attended(weights, p, projected, factors), (for_p, for_share, for_means)
        learn = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        if pairs:
            found = by.attend_pairs_backward(node, attended, ctx.each, *given, learn)
        else:
            found = by.attend_backward(node, attended, *given, learn)
        return None, *found[2:], None, *found[0].unbind(0), *found[1].unbind(0)


def _mixed_means(share: Tensor, keys: Tensor) -> Tensor:
    """Means over patches [B, R, C] of a mixture with weights `share` [B or 1, K] of maps with means `keys` [B, K, R, C]."""
    return (share[:, None] @ keys.to(share.dtype).flatten(2)).view(-1, *keys.shape[2:])


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
