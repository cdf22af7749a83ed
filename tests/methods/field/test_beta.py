"""beta-DARTS's regulariser against the original's values; without weight it is DARTS bit for bit."""

import json
import math

import pytest
import torch
from recordable import Recordable
from stepping import batch, made, same

from midas.methods.field.beta import beta, mean_logsumexp
from midas.methods.learning import Learning
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "beta_darts.json"
    if not path.is_file():
        pytest.skip("needs the reference values in ../shared/data/reference")
    return json.loads(path.read_text())


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


def supernet_with(*alphas, **options):
    """A supernet in float64 with these architecture parameters."""
    supernet = made(**options).supernet.double()
    for alpha, value in zip(supernet.architecture_parameters(), alphas, strict=True):
        alpha.data = value.double().clone()
    return supernet


def test_the_reference_is_a_regulariser_with_a_weight_that_grows_by_a_half_in_an_epoch(reference):
    linear = doubles(reference["linear"])
    supernet = supernet_with(doubles(reference["alpha"]))
    alpha = supernet.cells[0].mixing.alpha
    assert linear.shape == alpha.shape
    for case in reference["cases"]:
        epoch = torch.tensor(case["epoch"])
        value = beta()(supernet, epoch)
        assert mean_logsumexp([alpha]).item() == pytest.approx(case["regulariser"], rel=1e-9)
        assert value.item() == pytest.approx(case["weight"] * case["regulariser"], rel=1e-9, abs=1e-12)
        (gradient,) = torch.autograd.grad((alpha * linear).sum() + value, alpha)
        torch.testing.assert_close(gradient, doubles(case["gradient"]), **EXACT)
        moved = torch.nn.Parameter(alpha.detach().clone())
        moved.grad = gradient
        torch.optim.Adam([moved], 3e-4, (0.5, 0.999), weight_decay=1e-3).step()
        torch.testing.assert_close(moved.data, doubles(case["alpha_after_first_adam_step"]), **EXACT)


def test_two_kinds_of_cell_are_added_or_averaged(reference):
    case = reference["two_cells"]
    supernet = supernet_with(doubles(case["alpha_normal"]), doubles(case["alpha_reduce"]), space="darts", cells=3)
    alphas, epoch = supernet.architecture_parameters(), torch.tensor(case["epoch"])
    assert mean_logsumexp(alphas, "sum").item() == pytest.approx(case["regulariser"], rel=1e-9)
    value = beta(joint="sum")(supernet, epoch)
    assert value.item() == pytest.approx(case["weight"] * case["regulariser"], rel=1e-9)
    gradients = torch.autograd.grad(value, alphas)
    for kind, gradient in zip(("normal", "reduce"), gradients, strict=True):
        torch.testing.assert_close(gradient, doubles(case[f"gradient_{kind}"]), **EXACT)
    averaged = torch.autograd.grad(beta()(supernet, epoch), alphas)
    for whole, half in zip(gradients, averaged, strict=True):
        torch.testing.assert_close(half, whole / 2, **EXACT)


def test_its_weights_are_those_of_the_schedule(shared_data, reference):
    schedule = json.loads((shared_data / "reference" / "schedules.json").read_text())["beta_darts_weight_100"]
    supernet = supernet_with(torch.full((6, 5), 1 - math.log(5), dtype=torch.float64))  # a log-sum-exp of 1
    found = [beta()(supernet, torch.tensor(epoch)).item() for epoch in range(100)]
    assert found == pytest.approx(schedule, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 1), ("darts", 3), ("s1", 3)])
def test_its_gradient_is_proportional_to_the_softmax_so_that_rows_sum_to_the_weight_over_the_edges(space, cells):
    """Where an operation is not offered there is no gradient."""
    supernet = made(space=space, cells=cells).supernet.double()
    alphas = supernet.architecture_parameters()
    term = beta(0.3, "sum")(supernet, torch.tensor(7))
    missing = [cell.mixing.missing for cell in supernet.cells]
    for alpha, gradient in zip(alphas, torch.autograd.grad(term, alphas), strict=True):
        edges = len(alpha)
        torch.testing.assert_close(gradient.sum(1), torch.full((edges,), 2.1 / edges, dtype=torch.float64), **EXACT)
    if space == "s1":
        assert missing[0].any()
        assert (torch.autograd.grad(beta()(supernet, torch.tensor(7)), alphas)[0][missing[0]] == 0).all()


def test_under_adam_it_moves_all_parameters_down_and_keeps_their_differences():
    """Once its gradient is the larger one, Adam's step is the learning rate for each, whatever the loss prefers."""

    def searched(per_epoch, epochs=30, steps=391):
        draw = torch.Generator().manual_seed(0)
        preferred = 0.02 * torch.randn(6, 5, generator=draw)
        alpha = torch.nn.Parameter(torch.zeros(6, 5))
        optimizer = torch.optim.Adam([alpha], 3e-4, (0.5, 0.999), weight_decay=1e-3)
        spreads, means = [], []
        for epoch in range(epochs):
            for _ in range(steps):
                noise = 0.02 * torch.randn(6, 5, generator=draw)
                alpha.grad = preferred + noise + per_epoch * epoch / 6 * alpha.detach().softmax(1)
                optimizer.step()
            spreads.append(float((alpha.detach().amax(1) - alpha.detach().amin(1)).mean()))
            means.append(float(alpha.detach().mean()))
        return spreads, means

    (spreads, means), (free, _) = searched(0.5), searched(0.0)
    assert (means[29] - means[20]) / (9 * 391) == pytest.approx(-3e-4, rel=0.2)
    assert spreads[29] < 1.2 * spreads[5]
    assert free[29] > 3 * free[5] > 3 * spreads[5] / 1.2


@pytest.mark.parametrize("options", [{}, {"space": "darts", "cells": 3}])
def test_without_weight_and_in_the_first_epoch_it_is_darts_bit_for_bit(options):
    def stepped_in(epoch, *terms):
        found = made(Learning(terms=terms), **options)
        found.begin(epoch)
        for step in range(2):
            found.step(batch(2 * step), batch(2 * step + 1), SearchSums())
        return found

    assert same(stepped_in(0, beta()), stepped_in(0))
    plain = stepped_in(1)
    assert same(stepped_in(1, beta(0.0)), plain)
    assert not same(stepped_in(1, beta()), plain)


def test_it_can_be_recorded(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(Learning(terms=(beta(),)), cuda_graph=True, precision="float32")
    search.begin(3)
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums := SearchSums())
    with Recordable():
        search.step(batch(0), batch(1), sums)
