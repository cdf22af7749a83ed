"""GDAS: numbers of the original; one draw of a pass, of which only what was drawn is computed."""

import json
import math
from dataclasses import replace

import pytest
import torch
from recordable import Recordable
from searching import assert_same, finished, history_of, supernet_as_drawn
from stepping import STATIC, batch, made, same
from torch import nn

from midas.config.method import Method
from midas.decode import decode_dump
from midas.images.reading import load
from midas.methods.composition import compose, supernet_of
from midas.methods.decoding import decode_weights, pools
from midas.methods.field import gumbel as module
from midas.methods.field.gumbel import gumbel_like, scores, straight_through, temperature
from midas.methods.learning import Step
from midas.networks.skeletons import build
from midas.search import searching
from midas.spaces import SPACES, get_space
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse
from midas.supernet.candidates import Candidates
from midas.supernet.cpu import kernels
from midas.supernet.mixture import plain
from midas.supernet.operations import Dense
from midas.supernet.weights import Change
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
CPU = torch.device("cpu")
CASES = ("tau_10.0", "tau_1.0", "tau_0.1")
GRADIENTS = {
    "code": "gradient_nas201_cell_code",
    "chosen": "gradient_chosen_only",
    "dense": "gradient_dense_straight_through",
}
NAMES = {
    **{"none": "none", "skip_connect": "skip_connect", "avg_pool_3x3": "avg_pool_3x3", "max_pool_3x3": "max_pool_3x3"},
    **{"dua_sepc_3x3": "sep_conv_3x3", "dua_sepc_5x5": "sep_conv_5x5"},
    **{"dil_sepc_3x3": "dil_conv_3x3", "dil_sepc_5x5": "dil_conv_5x5"},
}
"""The original's names of the DARTS space's operations, and ours."""


def gdas(variant="code", **keys):
    return Method(weights="static", gumbel={"variant": variant}, **keys)


def searched(method, **options):
    """A search of random batches with the learning that the method has."""
    return made(compose(method, SPACES["nas_bench_201"], 2).learning, method=method, **options)


def step_of(search):
    return Step(search.passes, batch(0), batch(1), search.weight_optimizer, search.restrictions)


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference" / "gdas.json").read_text())


# --- numbers of the original: all of gdas.json, and the rows of tau


@pytest.mark.parametrize("name", CASES)
def test_a_draw_and_its_gradient_are_those_of_the_original(reference, name):
    case, alpha = reference["cases"][name], tensor(reference["alpha"]).requires_grad_()
    found = scores(alpha, tensor(reference["gumbel"]), case["tau"])
    torch.testing.assert_close(found, tensor(case["logits"]), **EXACT)
    torch.testing.assert_close(found.softmax(-1), tensor(case["probs"]), **EXACT)
    weights, one = straight_through(found.softmax(-1))
    assert one.argmax(-1).tolist() == case["index"]
    torch.testing.assert_close(weights, tensor(case["hard_weights"]), **EXACT)
    assert torch.equal(weights, one)  # without the rounding of the original
    (gradient,) = torch.autograd.grad((tensor(case["upstream"]) * weights).sum(), alpha)
    torch.testing.assert_close(gradient, tensor(case["gradient_of_sum_upstream_times_hard_weights"]), **EXACT)


def test_the_noise_is_minus_the_logarithm_of_an_exponential_number(reference, monkeypatch):
    exponential = tensor(reference["exponential"])
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(exponential))
    torch.testing.assert_close(gumbel_like(exponential), tensor(reference["gumbel"]), **EXACT)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.zero_())
    assert gumbel_like(torch.zeros(3)).isfinite().all()


class Affine(nn.Module):
    """The operations c x + d of the reference in the place of a node's candidates."""

    def __init__(self, source, spec, inputs):
        super().__init__()
        self.source, self.spec, self.inputs, self.computed = source, spec, inputs, []

    def forward(self, x, pooled, grid, chosen=None):
        found = {}
        for edge in self.spec.outgoing(self.source):
            for column, operation in enumerate(self.spec.candidates[edge]):
                if chosen is None or (edge, operation) in chosen:
                    c, d = self.inputs["c"][edge][column], self.inputs["d"][edge][column]
                    found[edge, operation] = plain(c * x + d, None)
        self.computed += found
        return None, found


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("variant", GRADIENTS)
@pytest.mark.parametrize("name", CASES)
def test_a_whole_cell_and_its_gradient_are_those_of_the_original(reference, monkeypatch, name, variant, whole):
    """Its five operations all have a map, as the reference's have."""
    case, inputs, nas = reference["cases"][name], reference["cell_inputs"], SPACES["nas_bench_201"]
    operations = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "max_pool_3x3")
    spec = replace(nas.cells["cell"], candidates=(operations,) * 6)
    space = replace(nas, cells={"cell": spec}, operations=operations)
    method = Method(weights="static", gumbel={"variant": variant, "first": case["tau"], "last": case["tau"]})
    cell = supernet_of(space, method, 2, 1, 10).double().cells[0]
    cell.candidates = nn.ModuleList(Affine(source, spec, inputs) for source in range(3))
    alpha = cell.mixing.alpha
    alpha.data = tensor(reference["alpha"])
    monkeypatch.setattr(module, "gumbel_like", lambda x: tensor(reference["gumbel"]))
    cell.mixing.begin(torch.tensor(0), whole)
    output = cell(tensor(inputs["x"]))
    torch.testing.assert_close(output, tensor(case["cell"]["output"]), **EXACT)
    torch.testing.assert_close(output, tensor(case["cell"]["output_chosen_only"]), **EXACT)
    (gradient,) = torch.autograd.grad((output * tensor(inputs["upstream"])).sum(), alpha)
    torch.testing.assert_close(gradient, tensor(case["cell"][GRADIENTS[variant]]), **EXACT)
    assert sum(len(one.computed) for one in cell.candidates) == (30 if whole or variant == "dense" else 6)


def test_tau_is_that_of_the_original_in_each_epoch(shared_data):
    """And of two others: one ends at 1.09, one goes on for 50 epochs more than its schedule has, below 0."""
    rows = json.loads((shared_data / "reference" / "schedules.json").read_text())
    for name, last, epochs in (
        ("gdas_tau_autodl_250", 0.1, 250),
        ("gdas_tau_drnas_repository_100", 1.09, 100),
        ("gdas_tau_confopt_benchsuite_300", 0.1, 250),
    ):
        found = temperature(torch.arange(len(rows[name])), 10.0, last, epochs)
        torch.testing.assert_close(found, tensor(rows[name]), **EXACT)
    assert int((found < 0).nonzero()[0]) == rows["gdas_tau_confopt_first_negative_epoch"]
    assert temperature(torch.tensor(0), 10.0, 0.1, 1) == 10


def eight(reference):
    """The DARTS space with "none", and the reference's parameters in the order of its operations."""
    space, kept = get_space("darts", True), reference["decode_nasnet_space"]
    ours = [NAMES[name] for name in kept["operations"]]
    order = [ours.index(name) for name in space.operations]
    alphas = [tensor(kept[f"alpha_{kind}"])[:, order] for kind in ("normal", "reduce")]
    return space, kept, torch.stack(alphas)


def test_cells_of_the_darts_space_are_decoded_as_in_the_original_with_two_edges_of_one_source(reference, tmp_path):
    space, kept, alphas = eight(reference)
    p = alphas.softmax(-1).numpy()
    cell = decode_weights(p, None, ["normal", "reduce"], space, pooled=True)
    for kind in ("normal", "reduce"):
        expected = [sorted((NAMES[o], source) for o, source in node) for node in kept["genotype"][kind]]
        assert [sorted(node) for node in cell.cells[kind]] == expected
    nodes = [node for kind in cell.cells.values() for node in kind]
    assert sum(len({source for _, source in node}) == 1 for node in nodes) == kept["nodes_with_one_source"]
    assert cell != decode_weights(p, None, ["normal", "reduce"], space)  # DARTS takes two edges
    cell.save(tmp_path / "genotype.json")
    assert load_genotype(tmp_path / "genotype.json") == parse(str(cell)) == cell
    assert build(cell, 2, 3, 10)(torch.randn(2, 3, 32, 32)).isfinite().all()


# --- draws


def test_an_operation_is_drawn_as_often_as_its_softmax_says_at_every_tau(reference):
    alpha, draws = tensor(reference["alpha"]).float(), 100_000
    torch.manual_seed(0)
    for tau in (10.0, 1.0, 0.1):
        wide = alpha.expand(draws, -1, -1)
        often = straight_through(scores(wide, gumbel_like(wide), tau).softmax(-1))[1].mean(0)
        p = alpha.softmax(-1)
        assert ((often - p).abs() <= 3 * (p * (1 - p) / draws).sqrt()).all()


def test_the_entropy_of_q_falls_from_that_of_a_uniform_one_towards_0():
    torch.manual_seed(0)
    alpha, entropies = torch.zeros(2000, 5), []
    for epoch in range(10):
        q = scores(alpha, gumbel_like(alpha), temperature(torch.tensor(epoch), 10.0, 0.1, 10)).softmax(-1)
        entropies.append(-(q * q.clamp(min=1e-30).log()).sum(-1).mean().item())
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] > 0.98 * math.log(5)
    assert entropies[-1] < 0.1 * math.log(5)


@pytest.mark.parametrize("variant", GRADIENTS)
@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 2), ("s1", 3)])
def test_all_cells_of_a_kind_share_a_draw_of_ones_and_zeros_and_two_passes_do_not(variant, space, cells):
    search, found = searched(gdas(variant), space=space, cells=cells), []
    for _ in range(2):
        p = search.passes.of_architecture(batch(0)).p
        kinds = search.supernet.kinds
        for kind in set(kinds):
            own = p[0, [i for i, name in enumerate(kinds) if name == kind]]
            assert torch.equal(own[:1].expand_as(own), own)
        assert torch.equal(p.amax(-1), torch.ones_like(p[..., 0]))
        assert torch.equal(p.sum(-1), torch.ones_like(p[..., 0]))
        found.append(p)
    assert not torch.equal(*found)


def test_what_is_not_offered_is_not_drawn():
    search = searched(gdas(), space="s2", cells=3)
    offered = ~torch.stack([cell.mixing.missing for cell in search.supernet.cells])
    drawn = torch.stack([search.passes.forward(batch(0)).p[0] for _ in range(20)]).sum(0)
    assert (drawn[~offered] == 0).all()


def test_both_steps_have_draws_of_their_own_that_depend_on_the_seed_alone():
    drawn = []
    for seed in (3, 3, 4):
        search, seen = searched(gdas()), []
        draw = search.supernet.cells[0].mixing._draw
        search.supernet.cells[0].mixing._draw = lambda seen=seen, draw=draw: seen.append(draw()) or seen[-1]
        torch.manual_seed(seed)
        search.step(batch(0), batch(1), SearchSums())
        assert len(seen) == 2
        drawn.append(torch.stack([one.weights.detach() for one in seen]))
    assert not torch.equal(*drawn[0])
    assert torch.equal(*drawn[:2])
    assert not torch.equal(*drawn[1:])


# --- what is computed

SPACES_AND_SIZES = [
    {"cells": 2},
    {"cells": 2, "merge_edges": True},
    {"cells": 2, "precision": "bfloat16"},
    {"space": "darts", "cells": 3},
    {"space": "darts", "cells": 3, "merge_edges": True},
    {"space": "s3", "cells": 3},
]


@pytest.mark.parametrize("options", SPACES_AND_SIZES, ids=str)
@pytest.mark.parametrize("variant", ["code", "chosen"])
def test_what_is_left_out_changes_neither_loss_nor_gradients(variant, options):
    search, found = searched(gdas(variant), **options), []
    close = {"rtol": 0.1, "atol": 0.02} if "precision" in options else {"rtol": 2e-3, "atol": 2e-5}
    step = search.learning.weights
    for seed in range(3):
        for whole in (False, True):
            search.supernet.whole = whole
            torch.manual_seed(seed)
            passes = search.passes.of_architecture(batch(0)), step(step_of(search))
            found.append([x.clone() for one in passes for x in (one.loss, *one.gradients)])
        for a, b in zip(*found[-2:], strict=True):
            torch.testing.assert_close(a, b, **close)


def test_the_paper_s_reading_has_the_same_map_and_another_gradient():
    found = {}
    for variant in GRADIENTS:
        search = searched(gdas(variant))
        torch.manual_seed(5)
        one = search.passes.of_architecture(batch(0))
        found[variant] = one.loss.clone(), one.gradients[0].clone()
    for variant in ("code", "chosen"):
        torch.testing.assert_close(found[variant][0], found["dense"][0])
        assert not torch.allclose(found[variant][1], found["dense"][1], rtol=0.1)
    assert not torch.allclose(found["code"][1], found["chosen"][1], rtol=0.1)


def test_only_what_was_drawn_is_computed_and_all_else_has_a_gradient_of_0(monkeypatch):
    """In all cells alike; a pooling of several edges is one module."""
    search, asked, compute = searched(gdas(), cells=2), [], Candidates._candidate
    monkeypatch.setattr(
        Candidates, "_candidate", lambda self, own, *others: asked.append(own) or compute(self, own, *others)
    )
    found = search.learning.weights(step_of(search))
    drawn = [search.supernet.space.operations[column] for column in found.p[0, 0].argmax(-1).tolist()]
    assert sum(isinstance(own, Dense) for own in asked) == 6 * sum("conv" in name for name in drawn)
    assert len(asked) <= 6 * sum(name != "none" for name in drawn)
    gradients = {id(w): g for w, g in zip(search.weights, found.gradients, strict=True)}
    for cell in range(6):
        for edge, name in enumerate(drawn):
            for operation in ("nor_conv_1x1", "nor_conv_3x3"):
                for parameter, part in search.supernet.parameters_of(cell, edge, operation):
                    assert operation == name or (gradients[id(parameter)][part] == 0).all()


def test_torch_s_own_operations_give_the_same():
    for space, cells in (("nas_bench_201", 1), ("darts", 3)):
        maps = []
        for fast in (True, False):
            torch.manual_seed(0)
            supernet = supernet_of(SPACES[space], gdas(), 4, cells, 10, fast=fast)
            torch.manual_seed(1)
            maps.append(supernet(batch(0)[0]))
        torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", GRADIENTS)
@pytest.mark.parametrize("options", [{}, {"space": "darts", "cells": 3}], ids=str)
def test_nodes_that_draw_none_alone_are_0_and_everything_stays_finite(variant, options):
    method = gdas(variant, offer_none=True)
    search = searched(method, **options)
    for alpha in search.architecture:
        alpha.data[:, 0] = 60.0
    for _ in range(2):
        search.step(batch(0), batch(1), sums := SearchSums())
    assert (search.passes.forward(batch(0)).p[..., 0] == 1).all()
    assert all(x.isfinite().all() for x in (*search.weights, *search.architecture))
    assert math.isfinite(sums.valid.number("valid_loss"))


@pytest.mark.parametrize("variant", GRADIENTS)
@pytest.mark.parametrize("operation", ["nor_conv_3x3", "skip_connect"])
def test_where_an_edge_offers_one_operation_it_is_first_order_darts_bit_for_bit(monkeypatch, variant, operation):
    nas = SPACES["nas_bench_201"]
    spec = replace(nas.cells["cell"], candidates=((operation,),) * 6)
    monkeypatch.setitem(SPACES, "nas_bench_201", replace(nas, cells={"cell": spec}))
    found = []
    for method in (STATIC, gdas(variant)):
        search = searched(method, cells=2)
        for step in range(3):
            search.step(batch(2 * step), batch(2 * step + 1), SearchSums())
        found.append(search)
    assert same(*found)


def test_a_change_of_all_weights_is_refused_where_one_operation_is_computed():
    with pytest.raises(ValueError, match="gumbel: one operation of an edge is not allowed with a change"):
        searched(gdas()).supernet.hold(Change())
    searched(gdas("dense")).supernet.hold(Change())


# --- in a search


@pytest.mark.parametrize("variant", GRADIENTS)
def test_it_can_be_recorded(variant, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = searched(gdas(variant), cuda_graph=True, precision="float32")
    search.begin(1)
    for _ in range(2):
        search.step(batch(0), batch(1), sums := SearchSums())
    with Recordable():
        search.step(batch(0), batch(1), sums)


@pytest.mark.parametrize("keys", [{}, {"beta": {"per_epoch": 1.0}, "taken": {}}], ids=str)
def test_killed_within_an_epoch_and_resumed_it_is_the_same_search(keys, search_run, tmp_path, monkeypatch):
    run = search_run(epochs=2, method={"weights": "static", "gumbel": {}, **keys})
    reference = finished(run, tmp_path / "whole")
    monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
    images = load(run.dataset, CPU)[0]
    for kill in ((0, 2), (1, 1)):
        steps = searching(run, tmp_path / "search", CPU, images)
        for place in steps:
            if place == kill:
                steps.close()
    finished(run, tmp_path)
    assert_same(tmp_path / "search", reference)
    entropies = [float(row["entropy"]) for row in history_of(tmp_path / "search")]
    assert all(entropy > 0.9 * math.log(5) for entropy in entropies)  # of what is drawn from, not of ones and zeros


def test_how_cells_are_decoded():
    darts, nas = get_space("darts"), get_space("nas_bench_201")
    assert pools(gdas(), darts)
    assert not pools(gdas(), nas)
    assert not pools(gdas(decode_pooled=False), darts)
    assert pools(Method(weights="static", decode_pooled=True), darts)
    assert not pools(STATIC, darts)
    assert compose(gdas(), darts).decode_pooled


def test_a_search_of_the_darts_space_decodes_its_softmax_with_edges_pooled(search_run, tmp_path):
    method = {"weights": "static", "gumbel": {"variant": "chosen"}, "offer_none": True}
    run = search_run("darts", method=method)
    folder, space = finished(run, tmp_path), get_space("darts", True)
    alphas = [mixing.alpha for mixing in _sources(supernet_as_drawn(run, folder))]
    expected = decode_weights(
        torch.stack(alphas).softmax(-1).detach().numpy(), None, list(space.cells), space, pooled=True
    )
    assert decode_dump(folder / "arch.npz", space, run.method) == expected
    assert history_of(folder)[-1]["genotype"] == str(expected)


def _sources(supernet):
    """Of a normal and a reduction cell."""
    return [supernet.cells[supernet.kinds.index(kind)].mixing for kind in ("normal", "reduce")]
