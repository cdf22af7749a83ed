"""DrNAS: numbers of the original; weights are drawn once a pass for all cells of a kind; stages prune for good."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recordable import Recordable
from searching import CPU, assert_same, history_of
from stepping import batch, made, parameters, same, stepped

from midas.config.method import Method
from midas.images.reading import load
from midas.methods.changes import Mask
from midas.methods.composition import compose
from midas.methods.decoding import decode_weights
from midas.methods.epochs import Epoch
from midas.methods.field.dirichlet import (
    Pruning,
    concentration,
    divergence,
    edge_dirichlet,
    edge_mean,
    kl,
    largest,
    stages,
    waits,
)
from midas.methods.learning import Learning, first_order, on_train
from midas.search import search, searching
from midas.spaces import SPACES
from midas.supernet.cpu import kernels
from midas.supernet.weights import Place
from midas.training.bilevel import Bilevel
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
NAS = SPACES["nas_bench_201"]
WHOLE = Place(0, "cell", 0, slice(None))


def method(**keys):
    return Method(weights="static", dirichlet=keys)


def learning(**keys):
    return compose(method(**keys), NAS, 2).learning


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def flags(numbers):
    return torch.tensor(numbers, dtype=torch.bool)


@pytest.fixture
def reference(shared_data):
    return json.loads((shared_data / "reference" / "drnas.json").read_text())


def doubled(*alphas, part=None, **options):
    """A search in float64 with these architecture parameters."""
    found = made(method=method(**(part or {})), **options)
    found.supernet.double()
    for alpha, value in zip(found.architecture, alphas, strict=True):
        alpha.data = value.clone()
    return found


def drawn(found, seed=0):
    """Weights of a pass [cells, edges, O]."""
    torch.manual_seed(seed)
    found.supernet(batch(0)[0].to(found.architecture[0].dtype))
    return found.supernet.mixture()[0][0]


def pruned(found, hook, epochs):
    """After so many epochs."""
    hook(Epoch(found.passes, [{}] * epochs, found.restrictions, lambda change: None))


# --- numbers of the original
# Compared through a supernet where that is possible. The rest of the file are notes, and mask and operations as inputs.


def test_the_concentration_is_that_of_the_original(reference):
    torch.testing.assert_close(
        concentration(tensor(reference["alpha"])), tensor(reference["sample"]["concentration"]), **EXACT
    )


def test_a_pass_draws_what_the_original_draws(reference):
    case = reference["sample"]
    found = doubled(tensor(reference["alpha"]))
    torch.testing.assert_close(drawn(found, case["seed"])[0], tensor(case["sample"]), **EXACT)
    alpha = tensor(reference["alpha"]).requires_grad_()
    torch.manual_seed(case["seed"])
    p, _ = edge_dirichlet(alpha)
    torch.testing.assert_close(p.detach(), tensor(case["sample"]), **EXACT)
    (gradient,) = torch.autograd.grad(p, alpha, tensor(case["upstream"]))
    torch.testing.assert_close(gradient, tensor(case["gradient_alpha"]), **EXACT)


def test_pruning_twice_is_that_of_the_original(reference):
    found, hook = doubled(tensor(reference["alpha"])), Pruning([3, 2], 3)
    for epochs, name in ((1, "prune_to_3"), (2, "prune_again_to_2")):
        pruned(found, hook, epochs)
        torch.testing.assert_close(found.architecture[0].data, tensor(reference[name]["alpha_after"]), **EXACT)
        assert torch.equal(found.restrictions.mask.kept["cell"], flags(reference[name]["mask"]))


def test_a_masked_pass_draws_what_the_original_draws(reference):
    case = reference["masked_sample"]
    found = doubled(tensor(reference["alpha"]))
    pruned(found, Pruning([3], 2), 1)
    assert torch.equal(found.restrictions.mask.kept["cell"], flags(case["mask"]))
    torch.testing.assert_close(found.architecture[0].data, tensor(case["alpha"]), **EXACT)
    p = drawn(found, case["seed"])[0]
    torch.testing.assert_close(p, tensor(case["sample"]), **EXACT)
    torch.testing.assert_close(p.sum(-1), torch.ones(6, dtype=torch.float64), **EXACT)
    alpha = tensor(case["alpha"]).requires_grad_()
    torch.manual_seed(case["seed"])
    whole, _ = edge_dirichlet(alpha)
    torch.testing.assert_close(whole.detach(), tensor(case["sample_before_mask"]), **EXACT)
    masked = Mask({"cell": flags(case["mask"])}, renormalises=True)(whole, WHOLE)
    (gradient,) = torch.autograd.grad(masked, alpha, tensor(reference["sample"]["upstream"]))
    torch.testing.assert_close(gradient, tensor(case["gradient_alpha"]), **EXACT)
    assert gradient[~flags(case["mask"])].abs().max() < 1e-15


def test_the_divergence_is_that_of_the_original(reference):
    case = reference["kl"]
    found = doubled(tensor(reference["alpha"]))
    value = kl(case["reg_scale"])(found.supernet, torch.tensor(0))
    assert value.item() == pytest.approx(case["value"], rel=1e-9)
    (gradient,) = torch.autograd.grad(value, found.architecture)
    torch.testing.assert_close(gradient, tensor(case["gradient_alpha"]), **EXACT)


def test_the_decay_is_that_of_the_original(reference):
    found = doubled(tensor(reference["alpha"]))
    assert found.settings.arch_weight_decay == 1e-3
    optimizer = torch.optim.Adam(found.supernet.architecture_groups(), 3e-4, (0.5, 0.999), weight_decay=1e-3)
    found.architecture[0].grad = torch.zeros_like(found.architecture[0])
    optimizer.step()
    torch.testing.assert_close(found.architecture[0].data, tensor(reference["l2"]["alpha_after"]), **EXACT)


@pytest.mark.parametrize(
    ("variant", "name"), [("code", "genotype"), ("paper", "genotype_if_edges_were_ranked_by_the_dirichlet_mean")]
)
def test_the_cell_is_that_of_the_original_whose_code_and_paper_differ(reference, variant, name):
    case, space = reference["decode_darts_space"], SPACES["darts"]
    assert tuple(case["operations"]) == space.operations
    alphas = (tensor(case[f"alpha_{kind}"]) for kind in ("normal", "reduce"))
    found = doubled(*alphas, part={"variant": variant}, space="darts", cells=3)
    cell = decode_weights(found.supernet.settled()[0].numpy(), None, found.supernet.kinds, space)
    for kind in ("normal", "reduce"):
        pairs = [tuple(pair) for pair in case[name][kind]]
        nodes = [tuple(sorted(pairs[n : n + 2], key=lambda pair: pair[1])) for n in range(0, 8, 2)]
        assert list(cell.cells[kind]) == nodes


def test_stages_are_those_of_the_original(shared_data):
    schedules = json.loads((shared_data / "reference" / "schedules.json").read_text())
    for name in ("drnas_darts_space", "drnas_nas_bench_201_progressive"):
        lengths, wait = [], schedules[name]["architecture_learns_from_epoch_of_the_stage"]
        operations = [stage["operations"] for stage in schedules[name]["stages"]]
        lengths = [stage["epochs"] for stage in schedules[name]["stages"]]
        found = stages(sum(lengths), len(lengths))
        assert [len(stage) for stage in found] == lengths
        assert Pruning(operations[1:], sum(lengths)).at == {lengths[0]: operations[1]}
        assert waits(sum(lengths), 2, wait) == (range(wait), range(lengths[0], lengths[0] + wait))
    assert [(stage.start, stage.stop) for stage in stages(8, 3)] == [(0, 2), (2, 5), (5, 8)]
    assert waits(50, 2, 0) == ()


# --- distributions


def test_the_concentration_is_one_more_than_elu_and_never_zero():
    s = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(concentration(s), F.elu(s) + 1)
    low = torch.tensor([-300.0, -20.0, -torch.inf], requires_grad=True)
    found = concentration(low)
    assert (found > 0).all()
    assert found[2] == 1
    assert torch.autograd.grad(found.sum(), low)[0].isfinite().all()


def test_the_mean_of_draws_is_the_concentration_over_its_sum_also_of_what_is_left(reference):
    """Within five standard errors, of which none is larger than 0.5 / sqrt(100 000)."""
    alpha = tensor(reference["alpha"])
    s = alpha.masked_fill(~flags(reference["prune_to_3"]["mask"]), -torch.inf)
    torch.manual_seed(0)
    for logits in (alpha, s):
        offered = logits > -torch.inf
        c = (F.elu(alpha) + 1) * offered
        expected = c / c.sum(-1, keepdim=True)
        torch.testing.assert_close(edge_mean(logits)[0], expected)
        p, _ = edge_dirichlet(logits.expand(100_000, 6, 5))
        assert (p[:, ~offered] == 0).all()
        torch.testing.assert_close(p.sum(-1), torch.ones(100_000, 6, dtype=torch.float64))
        assert (p.mean(0) - expected).abs().max() < 5 * 0.5 / 100_000**0.5
        total = c.sum(-1, keepdim=True)
        torch.testing.assert_close(p.var(0), expected * (1 - expected) / (total + 1), rtol=0.05, atol=0.0)


def test_the_divergence_of_what_is_offered_is_that_of_torch():
    from torch.distributions import Dirichlet, kl_divergence

    s = torch.tensor([[0.3, -torch.inf, -1.0, 2.0, -torch.inf], [0.3, -1.0, 2.0, -torch.inf, -torch.inf]]).double()
    c = torch.tensor([1.3, np.exp(-1), 3.0]).double()
    expected = kl_divergence(Dirichlet(c), Dirichlet(torch.ones(3).double()))
    torch.testing.assert_close(divergence(s), expected.expand(2))


def test_the_largest_are_kept_of_what_is_allowed():
    alpha, allowed = torch.tensor([[1.0, 4, 3, 2], [-1, -2, -3, -4]]), torch.ones(2, 4, dtype=torch.bool)
    allowed[0, 1] = allowed[1, 1:] = False
    assert torch.equal(largest(alpha, 2, allowed), flags([[0, 0, 1, 1], [1, 0, 0, 0]]))
    assert torch.equal(largest(alpha, 9, allowed), allowed)


# --- in a search


def test_all_cells_of_a_kind_share_a_draw_that_is_another_in_each_pass():
    found = made(method=method(), space="darts", cells=4)
    kinds = found.supernet.kinds
    p = drawn(found)
    first = {kind: p[kinds.index(kind)] for kind in kinds}
    assert all(torch.equal(p[cell], first[kind]) for cell, kind in enumerate(kinds))
    assert not torch.equal(first["normal"], first["reduce"])
    assert torch.equal(drawn(found), p)
    assert not torch.allclose(drawn(found, 1), p, atol=0.01)
    found.supernet.eval()
    with torch.no_grad():
        assert torch.equal(drawn(found), p)


@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 1), ("s1", 3)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_sum_to_one_over_what_is_offered(space, cells, precision):
    found = stepped(learning(), method=method(), space=space, cells=cells, precision=precision)
    p = found.passes.forward(batch(0)).p
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p.sum(-1)))
    missing = torch.stack([cell.mixing.missing for cell in found.supernet.cells])
    assert torch.equal(p[0] == 0, missing)
    assert missing.any() == (space == "s1")
    assert all(x.isfinite().all() for x in parameters(found))
    torch.testing.assert_close(found.supernet.settled().sum(-1), torch.ones_like(p.sum(-1)))


def test_of_large_parameters_a_draw_is_its_mean_and_the_loss_that_of_a_static_mixture():
    c = 1e6 * (1 + torch.rand(6, 5, generator=torch.Generator().manual_seed(3)))
    found, static = made(method=method()), made()
    found.architecture[0].data, static.architecture[0].data = c - 1, c.log()
    a, b = (x.passes.forward(batch(0)) for x in (found, static))
    torch.testing.assert_close(a.p, b.p, rtol=0, atol=0.01)
    torch.testing.assert_close(a.loss, b.loss, rtol=0.01, atol=0)
    assert not torch.equal(a.p, b.p)


def test_draws_become_less_uniform_in_a_search():
    found = made(learning(), method=method(), arch_lr=0.1)
    found.begin(0)
    torch.manual_seed(0)
    largest_p = []
    whole = found.passes.of_architecture

    def seen(on):
        result = whole(on)
        largest_p.append(result.p.amax(-1).mean().item())
        return result

    found.passes.of_architecture = seen
    for step in range(60):
        found.step(batch(step % 2), batch(step % 2 + 1), SearchSums())
    first, second, third = np.reshape(largest_p, (3, 20)).mean(1)
    assert first < 0.48  # of five uniform ones it is 0.46
    assert first + 0.01 < second < third - 0.03


def test_a_step_is_first_order_with_and_without_the_divergence():
    assert learning() == Learning(first_order, on_train, ())
    assert learning(regulariser="kl")[:2] == (first_order, on_train)
    decays = {}
    for regulariser in ("l2", "kl"):
        found = made(learning(regulariser=regulariser), method=method(regulariser=regulariser))
        (group,) = found.architecture_optimizer.param_groups
        decays[regulariser] = group["weight_decay"]
    assert decays == {"l2": 1e-3, "kl": 0.0}


def searched_with(seed=0, **keys):
    settings = {name: keys.pop(name) for name in ("arch_weight_decay",) if name in keys}
    found = made(learning(**keys), method=method(**keys), **settings)
    found.begin(0)
    torch.manual_seed(seed)
    for step in range(3):
        found.step(batch(2 * step), batch(2 * step + 1), SearchSums())
    return found


def test_a_step_is_a_function_of_the_seed_and_no_divergence_is_no_decay_bit_for_bit():
    plain = searched_with()
    assert same(plain, searched_with())
    assert not same(plain, searched_with(1))
    without = searched_with(arch_weight_decay=0.0)
    assert same(without, searched_with(regulariser="kl", factor=0.0))
    assert not same(without, searched_with(regulariser="kl"))
    assert not same(without, plain)


def test_what_is_pruned_is_neither_drawn_nor_decoded_nor_given_back():
    found, hook = made(learning(), method=method(keep=[4, 3, 1]), space="s1", cells=3), Pruning([4, 3, 1], 8)
    for done in range(1, 8):
        before = found.restrictions.mask and {k: x.clone() for k, x in found.restrictions.mask.kept.items()}
        pruned(found, hook, done)
        found.step(batch(0), batch(1), SearchSums())
        if before:
            assert all((found.restrictions.mask.kept[kind] <= x).all() for kind, x in before.items())
    assert found.restrictions.changes == 3
    kept = torch.stack([found.restrictions.mask.kept[kind] for kind in found.supernet.kinds])
    assert (kept.sum(-1) == 1).all()
    assert torch.equal(drawn(found), kept.float())
    assert torch.equal(found.supernet.settled()[0], kept.float())


OTHERS = [{"beta": {}}, {"perturbation": {"kind": "random"}}, {"perturbation": {"kind": "adversarial"}}]


@pytest.mark.parametrize("others", OTHERS, ids=str)
def test_it_goes_with_other_parts(others):
    whole = Method(weights="static", dirichlet={}, **others)
    found, plain = (stepped(compose(m, NAS, 2).learning, method=m, first_epoch=1) for m in (whole, method()))
    assert not same(found, plain)
    assert all(x.isfinite().all() for x in parameters(found))


def test_it_can_be_recorded(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    found = made(learning(regulariser="kl"), method=method(regulariser="kl"), cuda_graph=True, precision="float32")
    pruned(found, Pruning([3], 2), 1)
    sums = SearchSums()
    for _ in range(2):
        found.step(batch(0), batch(1), sums)
    with Recordable():
        found.step(batch(0), batch(1), sums)


STAGES = {"weights": "static", "dirichlet": {"keep": [3], "wait": 1, "regulariser": "kl"}}


@pytest.fixture(scope="module")
def of_stages(search_run, tmp_path_factory):
    """A run of two stages of two epochs, and the folder of its finished search."""
    run, folder = search_run(method=STAGES, epochs=4), tmp_path_factory.mktemp("stages") / "search"
    with pytest.MonkeyPatch.context() as patch:
        learned, step = [], Bilevel.architecture_step

        def seen(self, train, valid, averages, learns=True):
            learned.append((int(self.passes.epoch), learns))
            step(self, train, valid, averages, learns)

        patch.setattr(Bilevel, "architecture_step", seen)
        search(run, folder)
    return run, folder, dict(learned)


def test_a_search_of_stages_waits_prunes_and_decodes_what_is_left(of_stages):
    _, folder, learned = of_stages
    assert learned == {0: False, 1: True, 2: False, 3: True}
    p = np.load(folder / "arch.npz")["p"]
    assert ((p > 0).sum(-1) == 3).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    last = history_of(folder)[-1]
    assert last["genotype"] == str(decode_weights(p[0], None, ["cell"] * 3, NAS))
    norms = json.loads((folder / "metrics.json").read_text())["architecture_norms"]
    assert norms[0] == norms[1] != norms[2]


@pytest.mark.parametrize("stop", [(1, 2), (1, 3), (2, 1)])
def test_killed_and_resumed_it_is_the_same(of_stages, stop, tmp_path, monkeypatch):
    """In the midst of an epoch, after the last step before operations are pruned, and after the first step since."""
    run, reference, _ = of_stages
    monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
    images = load(run.dataset, CPU)[0]
    steps = searching(run, tmp_path / "search", CPU, images)
    for place in steps:
        if place == stop:
            steps.close()
            break
    assert place == stop
    search(run, tmp_path / "search")
    assert_same(tmp_path / "search", reference)
