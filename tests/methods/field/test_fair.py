"""FairDARTS: numbers of the original; sigmoids, their separation, and decoding by a threshold, to cells of any width."""

import json
from itertools import groupby

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recordable import Recordable
from searching import assert_same
from stepping import batch, made, same, stepped

from midas import search as module
from midas.config.method import Method
from midas.decode import decode_dump
from midas.methods.composition import compose
from midas.methods.decoding import decode_weights
from midas.methods.distributions import sigmoid
from midas.methods.field.fair import distance, separation
from midas.methods.learning import Learning
from midas.networks.skeletons import build
from midas.spaces import SPACES
from midas.spaces.genotype import Genotype, check_nodes, load, parse
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
DARTS = SPACES["darts"]
NORMAL = DARTS.cells["normal"]
NORMS = ["l2", "l1"]
SIGMOID = Method(weights="static", distribution="sigmoid")
FAIR = Method(weights="static", distribution="sigmoid", separation={}, sparse={})


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "fairdarts.json"
    if not path.is_file():
        pytest.skip("needs the reference values in ../shared/data/reference")
    return json.loads(path.read_text())


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


def darts_with(*alphas):
    """A supernet of the DARTS space in float64 with these architecture parameters."""
    supernet = made(space="darts", cells=3).supernet.double()
    for alpha, value in zip(supernet.architecture_parameters(), alphas, strict=True):
        alpha.data = value.double().clone()
    return supernet


# --- separation


@pytest.mark.parametrize("norm", NORMS)
def test_separation_and_its_gradient_are_those_of_the_reference(reference, norm):
    held = reference["losses"][norm]
    supernet = darts_with(doubles(reference["alpha_normal"]), doubles(reference["alpha_reduce"]))
    alphas = supernet.architecture_parameters()
    term = separation(norm=norm)(supernet, torch.tensor(3))
    assert term.item() == pytest.approx(10 * held["separation"], rel=1e-9)
    entropy = F.cross_entropy(doubles(reference["logits"]), torch.tensor(reference["targets"]))
    assert entropy.item() == pytest.approx(held["cross_entropy"], rel=1e-9)
    assert (entropy + term).item() == pytest.approx(held["total"], rel=1e-9)
    for kind, gradient in zip(("normal", "reduce"), torch.autograd.grad(term, alphas), strict=True):
        torch.testing.assert_close(gradient, doubles(held[f"gradient_{kind}"]), **EXACT)


@pytest.mark.parametrize("norm", NORMS)
def test_where_all_logits_are_zero_there_is_no_separation_and_no_gradient(reference, norm):
    supernet = darts_with(torch.zeros(14, 7), torch.zeros(14, 7))
    term = separation(norm=norm)(supernet, torch.tensor(0))
    gradients = torch.autograd.grad(term, supernet.architecture_parameters())
    held = reference["losses"]["at_alpha_zero"]
    assert term.item() == held["separation"] == 0
    assert max(float(gradient.abs().max()) for gradient in gradients) == held["largest_gradient"] == 0


@pytest.mark.parametrize("norm", NORMS)
def test_operations_that_are_not_offered_do_not_count(norm):
    supernet = made(space="s1", cells=3).supernet.double()
    alphas, missing = zip(
        *{id(c.mixing): (c.mixing.alpha, c.mixing.missing) for c in supernet.cells}.values(), strict=True
    )
    assert all(x.any() for x in missing)
    away = torch.cat([(alpha.sigmoid() - 0.5)[~x] for alpha, x in zip(alphas, missing, strict=True)]).detach()
    term = separation(2.0, norm)(supernet, torch.tensor(0))
    assert term.item() == pytest.approx(-2 * float((away.square() if norm == "l2" else away.abs()).mean()), rel=1e-9)
    for gradient, x in zip(torch.autograd.grad(term, alphas), missing, strict=True):
        assert gradient.isfinite().all()
        assert (gradient[x] == 0).all()
        assert (gradient[~x] != 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_it_drives_each_weight_from_a_half_to_the_side_on_which_it_is(norm):
    alpha = torch.nn.Parameter(0.1 * torch.randn(14, 7, generator=torch.Generator().manual_seed(0)))
    side, optimizer = alpha.detach().sign(), torch.optim.Adam([alpha], 0.1)
    ends = []
    for _ in range(4):
        ends.append(float(((alpha.sigmoid() - 0.5).abs() > 0.4).float().mean()))
        for _ in range(20):
            optimizer.zero_grad()
            (-10 * distance([alpha], norm)).backward()
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
def test_a_search_mixes_with_sigmoids(space, cells):
    found = stepped(Learning(terms=(separation(),)), method=SIGMOID, space=space, cells=cells)
    p = found.supernet.mixture()[0]
    assert all(parameter.isfinite().all() for parameter in (*found.weights, *found.architecture))
    for number, cell in enumerate(found.supernet.cells):
        missing = cell.mixing.missing
        assert (p[:, number, missing] == 0).all()
        assert (p[:, number, ~missing] - 0.5).abs().max() < 0.05


def test_sigmoids_and_separation_can_be_recorded(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(
        Learning(terms=(separation(), separation(1.0, "l1"))), method=SIGMOID, cuda_graph=True, precision="float32"
    )
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums := SearchSums())
    with Recordable():
        search.step(batch(0), batch(1), sums)


# --- in a search


@pytest.mark.parametrize("space", ["nas_bench_201", "s1"])
def test_logits_begin_at_zero_and_all_other_weights_as_those_of_darts(space):
    cells = 1 if space == "nas_bench_201" else 3
    found, plain = (made(method=method, space=space, cells=cells) for method in (SIGMOID, Method(weights="static")))
    assert all((alpha == 0).all() for alpha in found.architecture)
    assert all(torch.equal(a, b) for a, b in zip(found.weights, plain.weights, strict=True))


def test_keys_become_its_parts():
    found = compose(FAIR, DARTS, 50)
    assert len(found.learning.terms) == 1
    assert found.threshold == 0.85
    assert compose(SIGMOID, DARTS, 50).threshold is None
    assert compose(SIGMOID, DARTS, 50).learning.terms == ()


@pytest.mark.parametrize("part", [{"flat": {"rho": 0.1}}, {"unrolled": {}}, {"alignment": {}}, {"extra_skip": {}}])
def test_it_goes_with_other_parts(part):
    method = Method(**FAIR.model_dump(exclude_none=True) | part)
    found = stepped(compose(method, DARTS, 2).learning, method=method, space="darts", cells=3, steps=1, channels=2)
    assert all(p.isfinite().all() for p in (*found.weights, *found.architecture))


def test_more_and_more_weights_are_near_zero_or_one(search_run, tmp_path, monkeypatch):
    shares, step = [], module.Searching._end

    def seen(self, epoch):
        (alpha,) = self.bilevel.architecture
        shares.append(float(((alpha.sigmoid() - 0.5).abs() > 0.4).float().mean()))
        step(self, epoch)

    monkeypatch.setattr(module.Searching, "_end", seen)
    method = SIGMOID.model_copy(update={"separation": FAIR.separation})
    module.search(search_run(method=method, epochs=6, arch_lr=0.3), tmp_path / "search")
    assert shares[0] < 0.2
    assert shares[-1] > 0.5
    assert shares == sorted(shares)


def test_a_search_is_killed_and_resumed_and_decoded(search_run, tmp_path, monkeypatch):
    settings = {"epochs": 2, "arch_lr": 0.5, "space": "darts", "method": FAIR}
    run = search_run(**settings)
    module.search(run, tmp_path / "whole/search")
    whole, step = tmp_path / "whole/search", module.Searching._end

    class KilledError(Exception):
        pass

    def killed(self, epoch):
        step(self, epoch)
        if epoch == 1:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(module.Searching, "_end", killed)
        with pytest.raises(KilledError):
            module.search(run, tmp_path / "search")
    module.search(run, tmp_path / "search")
    assert_same(tmp_path / "search", whole)
    with np.load(whole / "arch.npz") as file:
        assert ((file["p"] < 0.4) | (file["p"] > 0.6)).any()
    few = FAIR.model_copy(update={"sparse": FAIR.sparse.model_copy(update={"threshold": 0.6})})
    found = decode_dump(whole / "arch.npz", DARTS, few)
    assert all(0 < sum(map(len, nodes)) <= 8 for nodes in found.cells.values())
    nothing = FAIR.model_copy(update={"sparse": FAIR.sparse.model_copy(update={"threshold": 1.0})})
    with pytest.raises(ValueError, match=r"no operation of the normal cell reaches the threshold 1.0 \(sparse\)"):
        decode_dump(whole / "arch.npz", DARTS, nothing)
    plain = decode_dump(whole / "arch.npz", DARTS, SIGMOID)
    assert all(len(node) == 2 for nodes in plain.cells.values() for node in nodes)


# --- decodings
# Not compared: threshold_edge, up to two operations an edge, which is neither the original's default nor offered here.


def decoded(sigma, threshold, space=DARTS):
    """Nodes of a normal cell, with the same weights in the other one."""
    return decode_weights(np.stack([sigma, sigma]), None, ["normal", "reduce"], space, None, threshold).cells["normal"]


def nodes_of(entries):
    """Inputs of each node from entries (operation, target, source), in any order within a node."""
    return [sorted((o, s) for o, _, s in node) for _, node in groupby(entries, key=lambda entry: entry[1])]


def test_decodings_are_those_of_the_original(reference):
    """Up to the order within a node, which is here that of the sources: a cell is the same in any."""
    held = reference["decode"]
    sigma = np.array(held["sigmoid_weights"])
    torch.testing.assert_close(sigmoid(4 * doubles(reference["alpha_normal"]))[0], doubles(sigma.tolist()), **EXACT)
    assert tuple(held["operations"]) == DARTS.operations
    expected = held["genotypes"]
    assert FAIR.sparse.threshold == held["threshold"]
    assert [sorted(node) for node in decoded(sigma, held["threshold"])] == nodes_of(expected["threshold_sparse"])
    pairs = [(o, 2 + index // 2, source) for index, (o, source) in enumerate(expected["darts"])]
    assert [sorted(node) for node in decoded(sigma, None)] == nodes_of(pairs)


def test_a_node_keeps_two_inputs_or_one_or_none():
    sigma = np.full((14, 7), 0.1)
    sigma[0, 2] = sigma[1, 3] = 0.9  # node 2
    sigma[3, 4] = 0.85  # node 3: the threshold itself is kept
    sigma[3, 5] = 0.85  # of equal ones the first
    sigma[6, 1] = 0.84  # node 4
    expected = ((("skip_connect", 0), ("sep_conv_3x3", 1)), (("sep_conv_5x5", 1),), (), ())
    assert decoded(sigma, 0.85) == expected


def test_what_leaves_a_node_without_inputs_is_dropped_with_all_that_follows():
    sigma = np.full((14, 7), 0.1)
    sigma[1, 0] = 0.9  # node 2 takes node 1
    sigma[8, 0] = 0.9  # node 4 takes node 3, which has nothing
    sigma[13, 0] = sigma[11, 0] = 0.9  # node 5 takes nodes 4 and 2
    assert decoded(sigma, 0.85) == ((("max_pool_3x3", 1),), (), (), (("max_pool_3x3", 2),))


def test_a_threshold_of_zero_is_the_decoding_of_darts():
    for seed in range(20):
        sigma = np.random.default_rng(seed).uniform(size=(14, 7)).round(1)  # with ties
        assert decoded(sigma, 0.0) == decoded(sigma, None)


def test_what_is_not_offered_and_none_are_not_decoded():
    space = SPACES["s1"].with_none()
    spec = space.cells["normal"]
    for node, inputs in zip(spec.nodes, decoded(np.ones((14, len(space.operations))), 0.85, space), strict=True):
        for operation, source in inputs:
            assert operation != "none"
            assert operation in spec.candidates[spec.edges.index((source, node))]


# --- cells of any width

FEW = Genotype(
    "darts",
    {
        "normal": ((("sep_conv_3x3", 0),), (), (("skip_connect", 1), ("max_pool_3x3", 2)), ()),
        "reduce": ((), (("skip_connect", 0), ("dil_conv_3x3", 1)), (), (("avg_pool_3x3", 3),)),
    },
)
EMPTY = Genotype("darts", {"normal": ((), (), (), ()), "reduce": FEW.cells["reduce"]})


@pytest.mark.parametrize("genotype", [FEW, EMPTY])
def test_such_a_cell_is_written_and_read(genotype, tmp_path):
    genotype.save(tmp_path / "genotype.json")
    assert load(tmp_path / "genotype.json") == genotype
    assert parse(str(genotype)) == genotype


def test_the_text_lists_edges_node_by_node():
    normal = "normal=[[('sep_conv_3x3', 0)], [], [('skip_connect', 1), ('max_pool_3x3', 2)], []], normal_concat=[2, 4]"
    assert normal in str(FEW)


def test_a_network_of_such_cells_has_narrower_concatenations():
    check_nodes(FEW)
    network = build(FEW, 4, 5, 10, auxiliary=True)  # cells 1 and 3 reduce
    x, shapes = torch.randn(2, 3, 32, 32), []
    for cell in network.cells:
        cell.register_forward_hook(lambda *found: shapes.append(tuple(found[2].shape[1:])))
    logits, auxiliary = network.forward_auxiliary(x)
    assert shapes == [(8, 32, 32), (16, 16, 16), (16, 16, 16), (32, 8, 8), (32, 8, 8)]
    (logits.sum() + auxiliary.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert build(FEW, 4, 5, 10, imagenet=True)(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_a_node_is_the_sum_of_its_edges_and_an_empty_one_is_left_out():
    cell = build(FEW, 4, 5, 10).cells[0].eval()
    before, last = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8)
    s0, s1 = (module(x) for module, x in zip(cell.preprocess, (before, last), strict=True))
    edges = cell.graph.edges
    first = edges[0](s0)
    torch.testing.assert_close(cell(before, last), torch.cat([first, edges[1](s1) + edges[2](first)], 1))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (EMPTY.cells, r"normal cell: its nodes have \[0, 0, 0, 0\] edges"),
        (
            {**FEW.cells, "normal": ((), (("skip_connect", 2),), (("skip_connect", 0),), ())},
            "takes skip_connect from node 2",
        ),
        ({**FEW.cells, "normal": ((("skip_connect", 0),) * 3, (), (), ())}, r"its nodes have \[3, 0, 0, 0\] edges"),
    ],
)
def test_what_is_no_network_is_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        build(Genotype("darts", cells), 4, 5, 10)


def test_a_flat_list_of_an_odd_number_of_edges_is_refused():
    text = "Genotype(normal=[('skip_connect', 0)], normal_concat=[2], reduce=[('skip_connect', 0)], reduce_concat=[2])"
    with pytest.raises(ValueError, match="one edge; list the edges node by node"):
        parse(text)
