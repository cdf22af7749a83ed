"""Weights drawn once in a forward pass, weights changed for a pass, masks: with nothing to do it is DARTS bit for bit."""

from functools import partial

import pytest
import torch
from stepping import STATIC, batch, made, parameters, same, stepped

from midas.config.method import Method
from midas.methods import composition as module
from midas.methods import distributions
from midas.methods.changes import Mask, Shared
from midas.methods.learning import Learning, perturbed
from midas.supernet.weights import Change
from midas.training.sums import SearchSums

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

    plain, found = stepped(method=method), stepped(Learning(weights=perturbed(lambda step: Same())), method=method)
    if method is STATIC:
        assert same(plain, found)
    else:  # the mixture's means over patches are computed from its map where weights were changed, with another rounding
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


# --- masks


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
