"""From logits of (edge, operation) to mixing weights, with no parameters of their own (MIDAS, topology-aware space).

All functions take logits s [..., E, O] of the E edges that end in one node, -inf where an edge does not offer an operation
(each edge offers at least one), and return weights p [..., E, O] and, for pairs, pi [..., E (E - 1) / 2].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Distribution = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""From logits to weights, and to weights of pairs of edges where there are any."""


def edge_softmax(s: Tensor) -> tuple[Tensor, None]:
    """Softmax over the operations of each edge (DARTS): p sums to 1 on each edge."""
    return s.softmax(-1), None


def node_softmax(s: Tensor) -> tuple[Tensor, None]:
    """Softmax over all (edge, operation) of the node: p sums to 1."""
    return s.flatten(-2).softmax(-1).unflatten(-1, s.shape[-2:]), None


def pair_softmax(s: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all pairs {(i, j), (i', j')}, i < i', with score s_ij + s_i'j', in closed form.

    With e_i = sum_j exp(s_ij) and Z = sum over i < i' of e_i e_i': pi_ii' = e_i e_i' / Z, and p_ij, the probability that
    (i, j) is in the pair, is exp(s_ij) (sum over i' != i of e_i') / Z. All in logarithms, hence finite for any logits.

    Returns:
        p, which sums to 2, and pi in the order of ``itertools.combinations``, which sums to 1.
    """
    edges = s.shape[-2]
    first, second = torch.triu_indices(edges, edges, 1, device=s.device)  # made on the device, as a CUDA graph wants it
    log_e = s.logsumexp(-1)
    log_pairs = log_e[..., first] + log_e[..., second]
    log_z = log_pairs.logsumexp(-1, keepdim=True)
    itself = torch.eye(edges, dtype=torch.bool, device=s.device)
    log_others = log_e.unsqueeze(-2).masked_fill(itself, -torch.inf).logsumexp(-1)
    p = (s + (log_others - log_z).unsqueeze(-1)).exp()
    return p, (log_pairs - log_z).exp()


def sigmoid(s: Tensor) -> tuple[Tensor, None]:
    """Sigmoid of each logit on its own (FairDARTS): operations don't compete, an edge's p need not sum to 1."""
    return s.sigmoid(), None


DISTRIBUTIONS: dict[str, Distribution] = {
    "edge": edge_softmax,
    "node": node_softmax,
    "pairs": pair_softmax,
    "sigmoid": sigmoid,
}
"""By the key `distribution` of a method."""

ZERO = frozenset({"sigmoid"})
"""Names of those whose static logits begin at 0 exactly, not at small random numbers."""

DRAWN: frozenset[str] = frozenset()
"""Names of those that draw at random: static weights are then computed once in a forward pass and shared by all cells."""
