"""PC-DARTS: numbers of the original; one part and no weights of edges is first-order DARTS bit for bit."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import OPTIONS, check_against_oracle
from recordable import Recordable
from searching import finished
from stepping import STATIC, batch, made, parameters, same, stepped
from torch import nn

from midas import search as module
from midas.config.method import Method
from midas.methods.composition import compose, supernet_of
from midas.methods.decoding import decode_weights
from midas.methods.field.partial import EdgeWeights, edge_weights
from midas.spaces import SPACES, CellSpec
from midas.supernet import sums
from midas.supernet.beside.partial import REST, PartialCandidates, bypass, shuffled
from midas.supernet.cpu import kernels
from midas.supernet.mixture import mixture
from midas.supernet.weights import Change
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
PARTIAL = Method(weights="static", partial={})
NO_EDGES = Method(weights="static", partial={"edges": False})
ATTENTION = {"patch_size": 4, "distribution": "edge"}


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference" / "pcdarts.json").read_text())


def doubles(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def parted(x, parts):
    return x.split([x.shape[1] // parts, x.shape[1] - x.shape[1] // parts], 1)


# --- numbers of the original: all are compared


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_channels_are_shuffled_as_in_the_original(reference, layout):
    cases = reference["channel_shuffle"]["cases"]
    assert {"C8_k4", "C16_k4", "C12_k2", "C64_k4"} <= cases.keys()
    for name, order in cases.items():
        channels, parts = (int(part[1:]) for part in name.split("_"))
        x = torch.arange(channels, dtype=torch.float64)[None, :, None, None].repeat(3, 1, 2, 2)
        x = x.contiguous(memory_format=layout).requires_grad_()
        found = shuffled(*parted(x, parts))
        assert found[0, :, 0, 1].tolist() == order
        upstream = torch.randn(found.shape, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(found, x, upstream)
        assert torch.equal(gradient[:, order], upstream)


class Scaled(nn.Module):
    """c x at every `stride`-th pixel."""

    normalised = False

    def __init__(self, c, stride):
        super().__init__()
        self.c, self.stride = c, stride

    def forward(self, raw, active, wide):
        return self.c * raw[:, :, :: self.stride, :: self.stride]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_edge_is_that_of_the_original(reference, stride, fast):
    known = reference["mixed_op"]
    case, factors = known["cases"][f"stride_{stride}"], dict(zip("abc", known["c"], strict=True))
    spec = CellSpec(1, ((0, 1),), (("a", "b", "c"),), stride)

    def make(name, *_):
        return Scaled(factors[name], stride)

    x, w = doubles(known["x"]).contiguous(memory_format=torch.channels_last), doubles(known["w"]).requires_grad_()
    _, found = PartialCandidates(spec, 0, 2, False, False, fast, make)(x, None, None)
    mixed = mixture(w[None], [found[0, name] for name in "abc"])
    output = shuffled(mixed, mixture(torch.ones(1, 1, dtype=torch.float64), [found[0, REST]]))
    torch.testing.assert_close(output, doubles(case["output"]), **EXACT)
    (gradient,) = torch.autograd.grad(output, w, doubles(case["upstream"]))
    torch.testing.assert_close(gradient, doubles(case["gradient_w"]), **EXACT)


def test_edge_weights_and_cells_are_those_of_the_original(reference):
    """A decoded node keeps its edges in order of their sources; the original returns the better one first."""
    known, space = reference["edge_normalisation"], SPACES["darts"].with_none()
    supernet = supernet_of(space, PARTIAL, 4, 3, 10).double()
    columns = [known["operations"].index(operation) for operation in space.operations]
    for kind, cell in zip(supernet.kinds, supernet.cells, strict=True):
        suffix = {"normal": "normal", "reduce": "reduce"}[kind]
        cell.mixing.alpha.data = doubles(known[f"alphas_{suffix}"])[:, columns]
        cell.mixing.edges.beta.data = doubles(known[f"betas_{suffix}"])
    supernet(torch.randn(2, 3, 16, 16, dtype=torch.float64))
    p = supernet.mixture()[0].mean(0).numpy()
    alone = torch.stack([cell.p for cell in supernet.cells], 1).mean(0).numpy()
    for number, kind in enumerate(supernet.kinds):
        edges = supernet.cells[number].edges
        torch.testing.assert_close(edges, doubles(known[f"edge_weights_{kind}"]), **EXACT)
        nodes = torch.stack([part.sum() for part in edges.split([2, 3, 4, 5])])
        torch.testing.assert_close(nodes, doubles(known["sum_per_node"]), **EXACT)
        np.testing.assert_allclose(p[number], alone[number] * edges.numpy()[:, None], rtol=1e-12)
    found = [decode_weights(weights, None, supernet.kinds, space) for weights in (p, alone)]
    assert found[0] != found[1]
    for genotype, name in zip(found, ("genotype", "genotype_without_betas"), strict=True):
        for kind, nodes in genotype.cells.items():
            pairs = [tuple(pair) for pair in known[name][kind]]
            expected = [set(pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
            assert [set(node) for node in nodes] == expected


# --- what it is made of


def test_what_goes_by_is_the_largest_of_four_pixels_at_stride_2():
    x = torch.randn(2, 6, 4, 4)
    assert bypass(x, 1) is x
    assert torch.equal(bypass(x, 2), x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).amax((3, 5)))


def test_edge_weights_are_a_softmax_over_the_edges_of_a_node():
    weights = EdgeWeights(SPACES["darts"].cells["normal"])
    assert weights.beta.shape == (14,)
    assert weights.beta.abs().max() < 0.01
    assert weights(slice(2, 5)).sum().item() == pytest.approx(1)
    assert torch.equal(edge_weights(torch.zeros(4)), torch.full((4,), 0.25))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("way", [{"merged": True}, {"fast": False}], ids=str)
@pytest.mark.parametrize("options", ["partial", "partial, edges", "partial attention"])
def test_every_way_to_compute_equals_the_oracle(options, way, layout):
    check_against_oracle(SPACES["nas_bench_201"], OPTIONS[options], layout, **way)


def test_operations_have_the_first_channels_alone_and_weights_of_edges_are_theirs_in_common():
    supernet = supernet_of(SPACES["nas_bench_201"], PARTIAL, 16, 2, 10)
    assert supernet.cells[0].candidates[0].operations[-2].conv.weight.shape[1] == 4
    assert [cell.mixing for cell in supernet.cells[:1]] * 6 == [cell.mixing for cell in supernet.cells]
    assert [tuple(p.shape) for p in supernet.architecture_parameters()] == [(6, 5), (6,)]
    attention = supernet_of(SPACES["nas_bench_201"], Method(**ATTENTION, partial={}), 16, 1, 10)
    assert {id(cell.mixing.edges) for cell in attention.cells}.__len__() == 3
    learned = [p for group in attention.architecture_groups() for p in group["params"]]
    assert {id(p) for p in learned} == {id(p) for p in attention.architecture_parameters()}


# --- limits


@pytest.mark.parametrize(
    "how", [{}, {"merge_edges": True}, {"precision": "bfloat16"}, {"space": "darts", "cells": 3, "steps": 2}], ids=str
)
def test_one_part_without_weights_of_edges_is_first_order_darts_bit_for_bit(how):
    method = Method(weights="static", partial={"channels": 1, "edges": False})
    assert same(stepped(method=method, **how), stepped(**how))


def test_one_part_without_weights_of_edges_leaves_attention_as_it_is_bit_for_bit():
    method = Method(**ATTENTION, partial={"channels": 1, "edges": False})
    assert same(stepped(method=method), stepped(method=Method(**ATTENTION)))


class Divided(Change):
    """Weights divided by the number of the node's edges."""

    def __call__(self, p, place):
        return p / p.shape[1]


@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 1), ("darts", 3)])
def test_one_part_with_equal_edges_is_darts_with_each_sum_divided_by_its_edges(space, cells):
    found = []
    for method in (Method(weights="static", partial={"channels": 1}), STATIC):
        supernet = supernet_of(SPACES[space], method, 4, cells, 10).double()
        torch.manual_seed(0)
        for parameter in supernet.weight_parameters():
            parameter.data = torch.randn(parameter.shape, dtype=torch.float64) / 4
        for cell in supernet.cells:
            cell.mixing.alpha.data = (
                torch.linspace(-1, 1, cell.mixing.alpha.numel()).view_as(cell.mixing.alpha).double()
            )
        if method.partial:
            for cell in supernet.cells:
                cell.mixing.edges.beta.data.fill_(0.7)
        else:
            supernet.hold(Divided())
        x = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        loss = F.cross_entropy(supernet(x), torch.tensor([0, 3, 4]))
        learned = [cell.mixing.alpha for cell in {id(c.mixing): c for c in supernet.cells}.values()]
        found.append([loss, *torch.autograd.grad(loss, [*supernet.weight_parameters(), *learned])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [PARTIAL, Method(**ATTENTION, partial={})], ids=["static", "attention"])
def test_the_architecture_and_the_weights_of_edges_stay_until_they_learn(method):
    search = made(method=method)
    search.begin(0)
    before = [p.detach().clone() for p in search.architecture]
    edges = [cell.mixing.edges.beta for cell in search.supernet.cells]
    assert {id(p) for p in edges} <= {id(p) for p in search.architecture}
    weights = [p.detach().clone() for p in search.weights]
    search.step(batch(0), batch(1), SearchSums(), learns=False)
    assert all(torch.equal(a, b) for a, b in zip(before, search.architecture, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights, search.weights, strict=True) if a.numel() > 10)
    search.step(batch(0), batch(1), SearchSums())
    assert not any(torch.equal(a, b) for a, b in zip(before, search.architecture, strict=True))


def test_a_search_learns_both_after_the_first_epochs_and_decodes_their_product(search_run, tmp_path, monkeypatch):
    seen, end = [], module.Searching._end

    def watched(self, epoch):
        end(self, epoch)
        seen.append([p.detach().clone() for p in self.bilevel.architecture])

    monkeypatch.setattr(module.Searching, "_end", watched)
    drawn, make = [], module.Searching.__init__

    def begun(self, *args):
        make(self, *args)
        drawn.extend(p.detach().clone() for p in self.bilevel.architecture)

    monkeypatch.setattr(module.Searching, "__init__", begun)
    method = {"weights": "static", "partial": {}, "warmup_epochs": 1}
    folder = finished(search_run(method=method, epochs=2, arch_lr=0.1), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(drawn, seen[0], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn, seen[1], strict=True))
    alpha, beta = seen[1]
    with np.load(folder / "arch.npz") as dump:
        p = torch.from_numpy(dump["p"][0, 0])
    edges = torch.cat([part.softmax(0) for part in beta.split([1, 2, 3])])
    torch.testing.assert_close(p, alpha.softmax(1) * edges[:, None])


# --- with others


@pytest.mark.parametrize(
    "part",
    [
        {"perturbation": {"first": 0, "last": 0}},
        {"perturbation": {"kind": "adversarial", "first": 0, "last": 0, "steps": 2}},
        {"alignment": {"weight": 0}},
        {"beta": {"per_epoch": 0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", [{"weights": "static"}, ATTENTION], ids=["static", "attention"])
def test_a_part_that_does_nothing_leaves_it_bit_for_bit(part, source):
    """What perturbs p is given p without the weights of edges, and they are multiplied once."""
    if "beta" in part and source is ATTENTION:
        pytest.skip("it is a term of static logits")
    method = Method(**source, partial={})
    other = Method(**source, partial={}, **part)
    found = stepped(compose(other, SPACES["nas_bench_201"], 2).learning, method=other, first_epoch=1)
    assert same(found, stepped(method=method, first_epoch=1))


@pytest.mark.parametrize(
    "part",
    [{"unrolled": {}}, {"flat": {}}, {"alignment": {}, "beta": {}}, {"perturbation": {"kind": "adversarial"}}],
    ids=str,
)
def test_it_goes_with_other_parts(part):
    method = Method(weights="static", partial={}, **part)
    found = stepped(compose(method, SPACES["nas_bench_201"], 2).learning, method=method, first_epoch=1, steps=2)
    assert all(p.isfinite().all() for p in parameters(found))
    assert not same(found, stepped(method=PARTIAL, first_epoch=1, steps=2))


@pytest.mark.parametrize("how", [{}, {"space": "darts", "cells": 3, "merge_edges": True}], ids=str)
def test_it_goes_with_bfloat16(how):
    found = stepped(method=PARTIAL, precision="bfloat16", steps=1, channels=8, **how)
    exact = stepped(method=PARTIAL, precision="float32", steps=1, channels=8, **how)
    for a, b in zip(found.weights, exact.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02)


def test_the_kernels_of_a_cpu_take_narrow_maps(monkeypatch):
    """Where there is a compiler; torch's own sums are not asked."""
    if not kernels.there():
        pytest.skip("needs a compiler")
    for name in ("enter", "leave", "mix", "mix_backward"):
        monkeypatch.setattr(sums, name, None)
    stepped(method=PARTIAL, steps=1, channels=16)


def test_an_operation_on_the_first_channels_can_be_frozen():
    search = made(method=PARTIAL, channels=8)
    search.restrictions.freeze((0, 0, "nor_conv_3x3"))
    ((weight, part),) = search.supernet.parameters_of(0, 0, "nor_conv_3x3")
    before = weight[part].clone()
    assert before.shape == (2, 2, 3, 3)
    search.step(batch(0), batch(1), SearchSums())
    assert torch.equal(weight[part], before)


def test_what_is_drawn_is_decoded_by_the_settled_weights_times_those_of_edges():
    drawn = made(method=Method(weights="static", partial={"edges": False}, dirichlet={}), channels=8).supernet.cells[0]
    assert torch.equal(drawn.settled(3), drawn.mixing.settled(3))
    drawn = made(method=Method(weights="static", partial={}, dirichlet={}), channels=8).supernet.cells[0]
    edges = edge_weights(drawn.mixing.edges.beta[3:].detach())
    torch.testing.assert_close(drawn.settled(3).sum(-1)[0], edges, rtol=1e-6, atol=0)
    assert not drawn.settled(3).requires_grad


@pytest.mark.parametrize(
    "method", [NO_EDGES, PARTIAL, Method(**ATTENTION, partial={})], ids=["plain", "edges", "attention"]
)
def test_it_can_be_recorded(method, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(method=method, cuda_graph=True, precision="float32")
    search.begin(0)
    sums = SearchSums()
    for _ in range(2):
        search.step(batch(0), batch(1), sums)
    with Recordable():
        search.step(batch(0), batch(1), sums)
        search.step(batch(0), batch(1), sums, learns=False)
