"""Softmax in sets of weights, alone and in pairs of sets, and the slopes of both: Triton functions of `attention_kernels`."""

# kernels know no starred tuple, and only Triton's compiler knows the types of their arguments
# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softmax(logits, sets, COUNT: tl.constexpr, EDGES: tl.constexpr):
    """Softmax [ROWS, BLOCK] in each set of each patch, and the logsumexp of each set [ROWS, EDGES]."""
    weights, log_sums = tl.zeros_like(logits), tl.full((logits.shape[0], EDGES), -float("inf"), logits.dtype)
    for number in tl.static_range(COUNT):
        own = tl.where((sets == number)[None, :], logits, -float("inf"))
        top = tl.max(own, 1)
        exponentials = tl.exp(own - top[:, None])
        total = tl.sum(exponentials, 1)
        weights += exponentials / total[:, None]
        log_sums = tl.where((tl.arange(0, EDGES) == number)[None, :], (top + tl.log(total))[:, None], log_sums)
    return weights, log_sums


@triton.jit
def in_pairs(weights, log_sums, sets, COUNT: tl.constexpr, EDGES: tl.constexpr):
    """Weights of `distributions.pair_softmax` from the softmax of each edge: times the chance of the edge; and the pairs'.

    The pairs' [ROWS, EDGES, EDGES] are symmetric, each is there twice. Their logits are compared with the largest before anything
    else, hence weights sum to 2 for any logits.
    """
    edges = tl.arange(0, EDGES)
    log_sums -= tl.max(log_sums, 1)[:, None]
    itself = (edges[:, None] == edges[None, :])[None, :, :]
    pairs = tl.where(itself, -float("inf"), log_sums[:, :, None] + log_sums[:, None, :])
    pairs = tl.exp(pairs - tl.max(tl.max(pairs, 2), 1)[:, None, None])
    pairs *= (2 / tl.sum(tl.sum(pairs, 2), 1))[:, None, None]
    chances = tl.sum(pairs, 2)
    for number in tl.static_range(COUNT):
        chance = tl.sum(tl.where((edges == number)[None, :], chances, 0), 1)
        weights *= tl.where((sets == number)[None, :], chance[:, None], 1)
    return weights, pairs


@triton.jit
def slopes_in_sets(weights, for_p, sets, COUNT: tl.constexpr):
    """Gradients of the logits [ROWS, BLOCK] of softmax weights from those of the weights [BLOCK]."""
    means = tl.zeros_like(weights)
    for number in tl.static_range(COUNT):
        own = (sets == number)[None, :]
        means += tl.where(own, tl.sum(tl.where(own, weights * for_p[None, :], 0), 1)[:, None], 0)
    return weights * (for_p[None, :] - means)


@triton.jit
def slopes_in_pairs(weights, pairs, for_p, sets, COUNT: tl.constexpr, EDGES: tl.constexpr):
    """The same for weights of pairs: the covariance of an operation's presence with what the presence of others is worth.

    Two operations are both there with the chance of their edges' pair times that of each in its edge.
    """
    edges = tl.arange(0, EDGES)
    in_edge, worth = tl.zeros_like(weights), tl.zeros((weights.shape[0], EDGES), weights.dtype)
    for number in tl.static_range(COUNT):
        own = tl.where((sets == number)[None, :], weights, 0)
        chance = tl.sum(own, 1)
        own = own / tl.where(chance > 0, chance, 1)[:, None]
        in_edge += own
        worth = tl.where((edges == number)[None, :], tl.sum(own * for_p[None, :], 1)[:, None], worth)
    partners = tl.sum(pairs * worth[:, None, :], 2)
    slopes = weights * (for_p[None, :] - tl.sum(weights * for_p[None, :], 1)[:, None])
    for number in tl.static_range(COUNT):
        partner = tl.sum(tl.where((edges == number)[None, :], partners, 0), 1)
        slopes += tl.where((sets == number)[None, :], in_edge * partner[:, None], 0)
    return slopes
