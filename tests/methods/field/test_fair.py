"""FairDARTS's sigmoid, its separation and its decodings against the original's values."""

import json
from itertools import groupby

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recordable import Recordable
from stepping import batch, made, same, stepped

from midas.methods import distributions
from midas.methods.decoding import decode_weights
from midas.methods.field.fair import distance, separation, sigmoid, threshold_edge, threshold_sparse, two_strongest
from midas.methods.learning import Learning
from midas.spaces import SPACES
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
DARTS = SPACES["darts"]
NORMAL = DARTS.cells["normal"]
LOSSES = [("l2", True), ("l1", False)]


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "fairdarts.json"
    if not path.is_file():
        pytest.skip("needs the reference values in ../shared/data/reference")
    return json.loads(path.read_text())


@pytest.fixture
def by_sigmoid(monkeypatch):
    """Static weights are sigmoids."""
    monkeypatch.setitem(distributions.DISTRIBUTIONS, "edge", sigmoid)


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


def darts_with(*alphas):
    """A supernet of the DARTS space in float64 with these architecture parameters."""
    supernet = made(space="darts", cells=3).supernet.double()
    for alpha, value in zip(supernet.architecture_parameters(), alphas, strict=True):
        alpha.data = value.double().clone()
    return supernet


# --- separation


@pytest.mark.parametrize(("name", "squared"), LOSSES)
def test_separation_and_its_gradient_are_those_of_the_reference(reference, name, squared):
    held = reference["losses"][name]
    supernet = darts_with(doubles(reference["alpha_normal"]), doubles(reference["alpha_reduce"]))
    alphas = supernet.architecture_parameters()
    term = separation(squared=squared)(supernet, torch.tensor(3))
    assert term.item() == pytest.approx(10 * held["separation"], rel=1e-9)
    entropy = F.cross_entropy(doubles(reference["logits"]), torch.tensor(reference["targets"]))
    assert entropy.item() == pytest.approx(held["cross_entropy"], rel=1e-9)
    assert (entropy + term).item() == pytest.approx(held["total"], rel=1e-9)
    for kind, gradient in zip(("normal", "reduce"), torch.autograd.grad(term, alphas), strict=True):
        torch.testing.assert_close(gradient, doubles(held[f"gradient_{kind}"]), **EXACT)


@pytest.mark.parametrize(("name", "squared"), LOSSES)
def test_where_all_logits_are_zero_there_is_no_separation_and_no_gradient(reference, name, squared):
    supernet = darts_with(torch.zeros(14, 7), torch.zeros(14, 7))
    term = separation(squared=squared)(supernet, torch.tensor(0))
    gradients = torch.autograd.grad(term, supernet.architecture_parameters())
    held = reference["losses"]["at_alpha_zero"]
    assert term.item() == held["separation"] == 0
    assert max(float(gradient.abs().max()) for gradient in gradients) == held["largest_gradient"] == 0


@pytest.mark.parametrize("squared", [True, False])
def test_operations_that_are_not_offered_do_not_count(squared):
    supernet = made(space="s1", cells=3).supernet.double()
    alphas, missing = zip(
        *{id(c.mixing): (c.mixing.alpha, c.mixing.missing) for c in supernet.cells}.values(), strict=True
    )
    assert all(x.any() for x in missing)
    away = torch.cat([(alpha.sigmoid() - 0.5)[~x] for alpha, x in zip(alphas, missing, strict=True)]).detach()
    term = separation(2.0, squared)(supernet, torch.tensor(0))
    assert term.item() == pytest.approx(-2 * float((away.square() if squared else away.abs()).mean()), rel=1e-9)
    for gradient, x in zip(torch.autograd.grad(term, alphas), missing, strict=True):
        assert gradient.isfinite().all()
        assert (gradient[x] == 0).all()
        assert (gradient[~x] != 0).all()


@pytest.mark.parametrize("squared", [True, False])
def test_it_drives_each_weight_from_a_half_to_the_side_on_which_it_is(squared):
    alpha = torch.nn.Parameter(0.1 * torch.randn(14, 7, generator=torch.Generator().manual_seed(0)))
    side, optimizer = alpha.detach().sign(), torch.optim.Adam([alpha], 0.1)
    ends = []
    for _ in range(4):
        ends.append(float(((alpha.sigmoid() - 0.5).abs() > 0.4).float().mean()))
        for _ in range(20):
            optimizer.zero_grad()
            (-10 * distance([alpha], squared)).backward()
            optimizer.step()
    assert torch.equal(alpha.detach().sign(), side)
    assert ends[0] == 0
    assert ends[-1] == 1
    assert ends == sorted(ends)


@pytest.mark.parametrize("options", [{}, {"space": "darts", "cells": 3}])
def test_without_weight_it_is_darts_bit_for_bit(options):
    plain = stepped(steps=2, **options)
    assert same(plain, stepped(Learning(terms=(separation(0.0),)), steps=2, **options))
    assert not same(plain, stepped(Learning(terms=(separation(),)), steps=2, **options))


# --- the sigmoid as a distribution


def test_weights_are_independent_of_one_another():
    s = torch.randn(1, 3, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: sigmoid(x)[0], s).reshape(12, 12)
    p, pi = sigmoid(s)
    torch.testing.assert_close(jacobian, torch.diag((p * (1 - p)).flatten()), **EXACT)
    assert pi is None
    assert not torch.allclose(p.sum(-1), torch.ones(1, 3, dtype=torch.float64))


def test_logits_of_zero_have_a_weight_of_a_half():
    assert (sigmoid(torch.zeros(1, 2, 7))[0] == 0.5).all()


def test_operations_that_are_not_offered_have_no_weight_and_no_gradient():
    s = torch.randn(2, 3, 4)
    s[:, 1, 2:] = -torch.inf
    s[0, 0, 0], s[0, 0, 1] = 1e4, -1e4
    s.requires_grad_()
    p, _ = sigmoid(s)
    p.square().sum().backward()
    assert (p[:, 1, 2:] == 0).all()
    assert (s.grad[:, 1, 2:] == 0).all()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 1), ("s1", 3)])
def test_a_search_mixes_with_sigmoids(by_sigmoid, space, cells):
    found = stepped(Learning(terms=(separation(),)), space=space, cells=cells)
    p = found.supernet.mixture()[0]
    assert all(parameter.isfinite().all() for parameter in (*found.weights, *found.architecture))
    for number, cell in enumerate(found.supernet.cells):
        missing = cell.mixing.missing
        assert (p[:, number, missing] == 0).all()
        assert (p[:, number, ~missing] - 0.5).abs().max() < 0.05


def test_sigmoids_and_separation_can_be_recorded(by_sigmoid, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(Learning(terms=(separation(), separation(1.0, squared=False))), cuda_graph=True, precision="float32")
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums := SearchSums())
    with Recordable():
        search.step(batch(0), batch(1), sums)


# --- decodings


def nodes_of(entries):
    """Inputs of each node from entries (operation, target, source), in any order within a node."""
    return [sorted((o, s) for o, _, s in node) for _, node in groupby(entries, key=lambda entry: entry[1])]


def unordered(nodes):
    return [sorted(node) for node in nodes]


def test_decodings_are_those_of_the_reference(reference):
    """Up to the order within a node, which is here that of the sources: a cell is the same in any."""
    held = reference["decode"]
    sigma = np.array(held["sigmoid_weights"])
    torch.testing.assert_close(sigmoid(4 * doubles(reference["alpha_normal"]))[0], doubles(sigma.tolist()), **EXACT)
    assert tuple(held["operations"]) == DARTS.operations
    expected, threshold = held["genotypes"], held["threshold"]
    sparse = threshold_sparse(sigma, NORMAL, DARTS.operations)
    assert unordered(sparse) == nodes_of(expected["threshold_sparse"])
    assert sparse == threshold_sparse(sigma, NORMAL, DARTS.operations, threshold)
    assert unordered(threshold_edge(sigma, NORMAL, DARTS.operations)) == nodes_of(expected["threshold_edge"])
    pairs = [(o, 2 + index // 2, source) for index, (o, source) in enumerate(expected["darts"])]
    assert unordered(two_strongest(sigma, NORMAL, DARTS.operations)) == nodes_of(pairs)


def test_a_node_keeps_two_inputs_or_one_or_none():
    sigma = np.full((14, 7), 0.1)
    sigma[0, 2] = sigma[1, 3] = 0.9  # node 2
    sigma[3, 4] = 0.85  # node 3: the threshold itself is kept
    sigma[3, 5] = 0.85  # of equal ones the first
    sigma[6, 1] = 0.84  # node 4
    found = threshold_sparse(sigma, NORMAL, DARTS.operations)
    assert found == [[("skip_connect", 0), ("sep_conv_3x3", 1)], [("sep_conv_5x5", 1)], [], []]
    every = threshold_edge(sigma, NORMAL, DARTS.operations)
    assert every == [found[0], [("sep_conv_5x5", 1), ("dil_conv_3x3", 1)], [], []]


def test_without_a_threshold_it_is_the_decoding_of_darts():
    for seed in range(20):
        sigma = np.random.default_rng(seed).uniform(size=(14, 7)).round(1)  # with ties
        found = two_strongest(sigma, NORMAL, DARTS.operations)
        expected = decode_weights(np.stack([sigma, sigma]), None, ["normal", "reduce"], DARTS).cells["normal"]
        assert tuple(map(tuple, found)) == expected


def test_what_is_not_offered_and_none_are_not_decoded():
    space = SPACES["s1"].with_none()
    spec = space.cells["normal"]
    sigma = np.ones((14, len(space.operations)))
    for decode in (threshold_sparse, threshold_edge, two_strongest):
        for node, inputs in zip(spec.nodes, decode(sigma, spec, space.operations), strict=True):
            for operation, source in inputs:
                assert operation != "none"
                assert operation in spec.candidates[spec.edges.index((source, node))]
