"""What the frame offers to methods, each with a small one of its own; with nothing to do it is first-order DARTS bit for bit."""

import json
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch

from midas.config.settings import Method, Search
from midas.images.reading import load
from midas.methods import composition as module
from midas.methods import distributions
from midas.methods.changes import Mask, Shared
from midas.methods.composition import compose, supernet_of
from midas.methods.epochs import Choice, Hook
from midas.methods.learning import Learning, first_order, on_train, perturbed
from midas.running.checkpoint import read
from midas.search import search
from midas.spaces import SPACES, get_space
from midas.supernet.weights import Change
from midas.training import searching
from midas.training.bilevel import Bilevel
from midas.training.searching import Searching
from midas.training.sums import SearchSums

CPU = torch.device("cpu")
SETTINGS = Search(channels=4, cells=1, epochs=2, arch_lr=0.01)
STATIC = Method(weights="static")


def batch(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 16, 16, generator=draw), torch.randint(10, (8,), generator=draw)


def made(learning=None, method=STATIC, space="nas_bench_201", cells=1, **settings):
    """A search of random batches, its weights always the same at the start."""
    torch.manual_seed(0)
    settings = SETTINGS.model_copy(update={"cells": cells, **settings})
    supernet = supernet_of(SPACES[space], method, settings.channels, cells, 10, settings.merge_edges or False)
    return Bilevel(supernet.to(memory_format=torch.channels_last), settings, CPU, learning)


def stepped(learning=None, steps=3, **options):
    found = made(learning, **options)
    sums = SearchSums()
    for step in range(steps):
        found.step(batch(2 * step), batch(2 * step + 1), sums)
    return found


def parameters(found):
    return [*found.weights, *found.architecture]


def same(found, other):
    return all(torch.equal(a, b) for a, b in zip(parameters(found), parameters(other), strict=True))


# --- p once in a forward pass


def drawn(s):
    """Softmax of logits with normal noise."""
    return (s + torch.randn_like(s)).softmax(-1), None


def test_what_draws_is_drawn_once_in_a_forward_pass_for_all_cells_of_a_kind(monkeypatch):
    monkeypatch.setitem(distributions.DISTRIBUTIONS, "edge", drawn)
    monkeypatch.setattr(module, "DRAWN", frozenset({"edge"}))
    supernet = made(cells=2).supernet
    found = []
    for _ in range(2):
        supernet(batch(0)[0])
        p = supernet.mixture()[0]
        assert torch.equal(p[:, :1].expand_as(p), p)
        found.append(p)
    assert not torch.equal(*found)


def test_what_draws_gives_each_cell_its_own_where_it_is_not_said(monkeypatch):
    monkeypatch.setitem(distributions.DISTRIBUTIONS, "edge", drawn)
    supernet = made(cells=2).supernet
    supernet(batch(0)[0])
    p = supernet.mixture()[0]
    assert not torch.equal(p[:, :1].expand_as(p), p)


# --- a change of p, undone afterwards


def noisy(size, step):
    return Shared(lambda p, place: p + size * torch.rand_like(p))


@pytest.mark.parametrize("method", [STATIC, Method(patch_size=4), Method(patch_size=4, keys="per_operation")])
def test_a_change_of_nothing_changes_no_bit(method):
    class Same(Change):
        def __call__(self, p, place):
            return p

    plain = stepped(method=method)
    # the mixture's means over patches are computed from its map where weights were changed, with another rounding
    exact = method.weights == "static"
    found = stepped(Learning(weights=perturbed(lambda step: Same())), method=method)
    assert same(plain, found) if exact else True
    for a, b in zip(parameters(plain), parameters(found), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4)


def test_weights_learn_with_other_p_and_nothing_is_left_of_it():
    plain, found = made(), made(Learning(weights=perturbed(partial(noisy, 0.3))))
    alphas = [alpha.detach().clone() for alpha in found.architecture]
    sums = SearchSums()
    for one in (plain, found):
        torch.manual_seed(1)
        one.weight_step(batch(0), batch(1), sums.train)
    assert not same(plain, found)
    assert all(torch.equal(a, b) for a, b in zip(alphas, found.architecture, strict=True))
    assert not any(cell.changes for cell in found.supernet.cells)
    with torch.no_grad():
        found.supernet(batch(0)[0])
    torch.testing.assert_close(found.supernet.mixture()[0].sum(-1), torch.ones(1, len(found.supernet.cells), 6))


def test_one_change_a_pass_is_shared_by_the_cells_of_a_kind():
    supernet = made(cells=2).supernet
    with supernet.changed(noisy(0.3, None)):
        found = []
        for _ in range(2):
            supernet(batch(0)[0])
            found.append(supernet.mixture()[0])
            assert torch.equal(found[-1][:, :1].expand_as(found[-1]), found[-1])
    assert not torch.equal(*found)


def test_changes_of_one_cell_alone_give_its_own_gradient():
    """As a method needs that compares the cells' gradients of p: each cell's weights as a leaf."""
    search = made(cells=2)
    leaves = {}

    class Leaf(Change):
        def __call__(self, p, place):
            return leaves.setdefault((place.cell, place.node), p.detach().clone().requires_grad_())

    with search.supernet.changed(Leaf()):
        loss, _ = search.passes.loss(*batch(0))
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    expected = search.passes.of_architecture(batch(0)).gradients
    assert len(leaves) == 6 * 3
    whole = [torch.cat([g[0] for (c, _), g in zip(leaves, gradients, strict=True) if c == cell]) for cell in range(6)]
    p = search.architecture[0].softmax(1)
    (summed,) = torch.autograd.grad(p, search.architecture[0], sum(whole))
    torch.testing.assert_close(summed, expected[0], rtol=1e-4, atol=1e-7)


def test_where_each_patch_mixes_with_its_own_a_change_is_refused():
    search = made(method=Method(patch_size=4, mixing="patch"))
    with pytest.raises(ValueError, match="mixing: 'patch' is not allowed"), search.supernet.changed(noisy(0.1, None)):
        pass


# --- terms of the architecture's loss, and gradients of several passes


def test_a_term_adds_its_gradient_to_the_architectures_alone():
    def term(supernet, epoch):
        return (epoch + 1) * sum(alpha.exp().sum() for alpha in supernet.architecture_parameters())

    plain, found = made(), made(Learning(terms=(term,)))
    found.begin(2)
    a, b = (search.passes.of_architecture(batch(0)) for search in (plain, found))
    torch.testing.assert_close(b.gradients[0] - a.gradients[0], 3 * found.architecture[0].exp())
    assert torch.equal(a.loss, b.loss)
    a, b = (search.passes.of_weights(batch(0)) for search in (plain, found))
    assert all(torch.equal(x, y) for x, y in zip(a.gradients, b.gradients, strict=True))


def test_a_term_of_zero_changes_no_bit():
    assert same(
        stepped(), stepped(Learning(terms=(lambda supernet, epoch: 0.0 * supernet.cells[0].mixing.alpha.sum(),)))
    )


def test_a_gradient_may_take_several_passes_of_both_halves():
    """The mean of the gradients on both batches, the second at parameters that are moved and put back."""

    def of_both(step):
        one = step.passes.of_architecture(step.valid)
        (alpha,) = step.passes.architecture
        before = alpha.detach().clone()
        with torch.no_grad():
            alpha += 0.1 * one.gradients[0]
        other = step.passes.of_architecture(step.train)
        with torch.no_grad():
            alpha.copy_(before)
        return one._replace(gradients=((one.gradients[0] + other.gradients[0]) / 2,))

    found = made(Learning(architecture=of_both), arch_weight_decay=0.0)
    alpha = found.architecture[0].detach().clone()
    found.architecture_step(batch(0), batch(1), SearchSums().valid)
    # Adam's first step has the sign of the gradient
    plain = made(arch_weight_decay=0.0)
    one = plain.passes.of_architecture(batch(1)).gradients[0]
    with torch.no_grad():
        plain.architecture[0] += 0.1 * one
    other = plain.passes.of_architecture(batch(0)).gradients[0]
    moved = found.architecture[0].detach() - alpha
    assert torch.equal(moved.sign(), -(one + other).sign())
    assert same(stepped(Learning(first_order, on_train)), stepped())


# --- masks and freezing


@pytest.mark.parametrize("method", [STATIC, Method(patch_size=4)])
@pytest.mark.parametrize("renormalises", [True, False])
def test_a_masked_operation_takes_no_part(method, renormalises):
    supernet = made(method=method).supernet.double()
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[:, 3] = kept[2, 1] = False
    x = batch(0)[0].double()
    supernet(x)
    before = supernet.mixture()[0]
    with supernet.changed(Mask({"cell": kept}, renormalises)):
        supernet(x).sum().backward()
    p = supernet.mixture()[0]
    assert (p[..., ~kept] == 0).all()
    first = before[:, 0, 0] * kept[0]
    expected = first / first.sum(-1, keepdim=True) if renormalises else first
    torch.testing.assert_close(p[:, 0, 0], expected, rtol=0, atol=1e-12)
    if method is STATIC and renormalises:
        alpha = supernet.cells[0].mixing.alpha
        assert alpha.grad[~kept].abs().max() < 1e-12 < alpha.grad[kept].abs().max()
    for name, parameter in supernet.named_parameters():
        if "nor_conv" in name:
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize(
    ("space", "operation", "count"),
    [("nas_bench_201", (0, 3, "nor_conv_3x3"), 1), ("darts", (1, 5, "sep_conv_3x3"), 4)],
)
def test_a_frozen_operation_stands_still_and_all_else_learns(space, operation, count, merged):
    search = made(space=space, cells=3 if space == "darts" else 1, merge_edges=merged, momentum=0.9, weight_decay=0.01)
    sums = SearchSums()
    search.step(batch(0), batch(1), sums)  # so that there is a momentum
    search.frozen.add(operation)
    mine = search.supernet.parameters_of(*operation)
    before = [parameter.detach().clone() for parameter in parameters(search)]
    kept = [parameter.detach()[part].clone() for parameter, part in mine]
    for step in range(1, 3):
        search.step(batch(2 * step), batch(2 * step + 1), sums)
    assert len(mine) == count
    assert all(torch.equal(p.detach()[part], value) for (p, part), value in zip(mine, kept, strict=True))
    part_of = {id(parameter): part for parameter, part in mine}
    for parameter, old in zip(parameters(search), before, strict=True):
        moved = (parameter != old).flatten(1).any(1) if parameter.dim() > 1 else parameter != old
        if id(parameter) in part_of:
            moved[part_of[id(parameter)]] = True
        assert moved.any()
        if id(parameter) in part_of:
            assert moved.all()


def test_the_parts_of_a_merged_module_are_the_modules_of_each_edge():
    """Merged and apart, an operation on an edge has parameters of the same sizes."""
    for space in ("nas_bench_201", "darts", "s1"):
        nets = [
            made(space=space, cells=3 if space != "nas_bench_201" else 1, merge_edges=m).supernet for m in (True, False)
        ]
        spec = SPACES[space].cells[nets[0].cells[0].places[max(nets[0].cells[0].places)].kind]
        for edge, candidates in enumerate(spec.candidates):
            for operation in candidates:
                if operation != "none":
                    one, other = ([p[part] for p, part in net.parameters_of(0, edge, operation)] for net in nets)
                    assert [x.shape for x in one] == [x.shape for x in other]
    with pytest.raises(ValueError, match="edge 0 has no operation 'none' with a map"):
        made().supernet.parameters_of(0, 0, "none")


# --- epochs


def with_composition(monkeypatch, **parts):
    """Searches are of compositions with other parts."""

    def changed(method, space):
        return module.Composition(**{**vars(compose(method, space)), **parts})

    monkeypatch.setattr(searching, "compose", changed)


def test_evaluation_of_the_whole_half_is_that_of_the_dump(search_run, tmp_path):
    run = search_run(epochs=1)
    search(run, tmp_path / "search")
    found = Searching(run, load(run.dataset, CPU)[0], CPU)
    found.bilevel.restore(read(tmp_path / "search_checkpoint/newest.pt")["state"])
    accuracy = json.loads((tmp_path / "search/metrics.json").read_text())["valid_accuracy"]
    evaluated = found.evaluate()
    assert evaluated.accuracy == pytest.approx(accuracy, abs=1e-4)
    assert 0 < evaluated.loss < 10
    none_left = Mask({"cell": torch.zeros(6, 5, dtype=torch.bool)}, False)
    assert found.evaluate(none_left).loss != evaluated.loss
    assert found.evaluate() == evaluated


class Counts(Hook):
    """Freezes an operation after the first epoch and counts epochs; what it counted survives."""

    seen: ClassVar[list[tuple[int, int, int]]] = []

    def __init__(self):
        self.count = 0

    def __call__(self, epoch):
        self.count += 1
        Counts.seen.append((epoch.passes.epoch, len(epoch.history), self.count))
        if self.count == 1:
            epoch.frozen.add((0, 0, "nor_conv_3x3"))
        epoch.history[-1]["frozen"] = len(epoch.frozen.operations)

    def state(self):
        return {"count": self.count}

    def restore(self, state, passes):
        self.count = state["count"]


def test_hooks_are_called_at_each_epochs_end_and_go_on_after_a_kill(search_run, tmp_path, monkeypatch):
    with_composition(monkeypatch, hooks=(Counts,))
    run = search_run(epochs=3)
    Counts.seen.clear()
    search(run, tmp_path / "whole")
    assert Counts.seen == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    images, ended = load(run.dataset, CPU)[0], []
    for stop in ((1, 2), None):  # the first is left in the midst of its second epoch, right after it saved
        from midas.search import searching as step_by_step

        monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
        steps = step_by_step(run, tmp_path / "search", CPU, images)
        for place in steps:
            if place == stop:
                steps.close()
                break
        ended.append(len(Counts.seen))
    assert ended == [4, 6]
    assert Counts.seen[3:] == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    for name in ("arch.npz", "history.csv"):
        assert (tmp_path / "search" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "search/history.csv").read_text().splitlines()[0].endswith(",frozen")


@pytest.mark.parametrize("largest", [True, False])
def test_the_chosen_epochs_weights_are_those_that_are_dumped(search_run, tmp_path, monkeypatch, largest):
    """The entropy falls or rises from epoch to epoch; one direction takes the first epoch."""
    run = search_run(epochs=3, method={"weights": "static"})
    ends = []

    class Keeps(Hook):
        def __call__(self, epoch):
            ends.append([x.detach().clone() for x in epoch.passes.architecture])
            epoch.history[-1]["value"] = -len(epoch.history)

    with_composition(monkeypatch, hooks=(Keeps,), choice=Choice("value", largest))
    search(run, tmp_path / "search")
    taken = ends[0 if largest else 2][0]
    p = np.load(tmp_path / "search/arch.npz")["p"]
    np.testing.assert_allclose(p[0, 0], taken.softmax(1).numpy(), rtol=1e-6)
    assert len(ends) == 3


def test_a_search_ends_when_nothing_better_comes_for_as_long_as_its_patience(search_run, tmp_path, monkeypatch):
    class Falls(Hook):
        def __call__(self, epoch):
            epoch.history[-1]["value"] = min(len(epoch.history), 2)

    with_composition(monkeypatch, hooks=(Falls,), choice=Choice("value", largest=True, patience=2))
    search(search_run(epochs=9), tmp_path / "search")
    assert json.loads((tmp_path / "search/metrics.json").read_text())["epochs"] == 4


def test_choices():
    rows = [{"loss": value} for value in (3.0, 1.0, 2.0, 1.0)]
    assert Choice().best(rows) == 3
    assert Choice("loss").best(rows) == 1
    assert Choice("loss", largest=True).best(rows) == 0
    assert not Choice("loss").ends(rows)
    assert Choice("loss", patience=2).ends(rows)
    assert not Choice("loss", patience=3).ends(rows)


def test_a_composition_says_what_a_method_is():
    found = compose(Method(patch_size=4, warmup_epochs=3, offer_none=True, decode_batch=8), get_space("darts"))
    assert found.learning == Learning(first_order, on_train, ())
    assert (found.warmup_epochs, found.decode_batch, found.choice, found.hooks) == (3, 8, Choice(), ())
    assert found.space.operations[0] == "none"
    assert not found.mixing.shared
    assert found.mixing.patch_size == 4
    assert compose(STATIC, get_space("darts")).mixing.shared
