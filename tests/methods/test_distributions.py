"""The softmaxes over edges and operations, against brute force."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midas.methods.distributions import DISTRIBUTIONS, edge_softmax, node_softmax, pair_softmax


def brute_force(s):
    """p and pi by listing every pair of (edge, operation) with different edges."""
    edges, operations = s.shape
    p, pairs = torch.zeros_like(s), list(combinations(range(edges), 2))
    pi = torch.zeros(len(pairs), dtype=s.dtype)
    weights = {
        (i, j, k, l): torch.exp(s[i, j] + s[k, l])
        for i, k in pairs
        for j in range(operations)
        for l in range(operations)  # noqa: E741
    }
    total = sum(weights.values())
    for (i, j, k, l), weight in weights.items():  # noqa: E741
        p[i, j] += weight / total
        p[k, l] += weight / total
        pi[pairs.index((i, k))] += weight / total
    return p, pi


@given(st.integers(2, 5), st.integers(1, 7), st.integers(0, 10**6), st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_pairs_equal_brute_force_over_all_pairs(edges, operations, seed, spread):
    draw = torch.Generator().manual_seed(seed)
    s = spread * torch.randn(edges, operations, generator=draw, dtype=torch.float64)
    p, pi = pair_softmax(s)
    expected_p, expected_pi = brute_force(s)
    torch.testing.assert_close(p, expected_p, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(pi, expected_pi, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("edges", [2, 3, 5])
def test_pairs_sum_to_two_and_one(edges):
    p, pi = pair_softmax(torch.randn(4, 3, edges, 7, dtype=torch.float64))
    torch.testing.assert_close(p.sum((-1, -2)), torch.full((4, 3), 2.0, dtype=torch.float64))
    torch.testing.assert_close(pi.sum(-1), torch.ones(4, 3, dtype=torch.float64))


def test_edge_softmax_sums_to_one_on_each_edge_and_node_softmax_over_the_node():
    s = torch.randn(4, 3, 5, 7)
    torch.testing.assert_close(edge_softmax(s)[0].sum(-1), torch.ones(4, 3, 5))
    torch.testing.assert_close(node_softmax(s)[0].sum((-1, -2)), torch.ones(4, 3))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_with_finite_gradients_for_extreme_logits(name, dtype):
    s = torch.zeros(1, 3, 4, dtype=dtype)
    s[0, 0, 0], s[0, 1, 2], s[0, 2, :] = 1e4, -1e4, torch.tensor([1e4, -1e4, 0.0, 1e4], dtype=dtype)
    s.requires_grad_()
    p, pi = DISTRIBUTIONS[name](s)
    (p.square().sum() + (pi.square().sum() if pi is not None else 0)).backward()
    assert p.isfinite().all()
    assert s.grad.isfinite().all()
    assert p.min() >= 0


def test_operations_that_are_not_offered_get_no_weight_and_no_gradient():
    s = torch.randn(2, 3, 4, dtype=torch.float64)
    s[:, 1, 2:] = -torch.inf
    s.requires_grad_()
    p, _ = pair_softmax(s)
    p.square().sum().backward()
    assert (p[:, 1, 2:] == 0).all()
    assert s.grad.isfinite().all()
    torch.testing.assert_close(p.sum((-1, -2)), torch.full((2,), 2.0, dtype=torch.float64))
