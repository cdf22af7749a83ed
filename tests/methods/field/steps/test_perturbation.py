"""SDARTS: numbers of the original; what is perturbed is undone, and no perturbation is first-order DARTS bit for bit."""

import json

import pytest
import torch
from recordable import Recordable
from stepping import STATIC, batch, made, parameters, same, stepped

from midas.config.method import Method
from midas.methods.field.steps import perturbation as module
from midas.methods.field.steps.perturbation import (
    attack,
    attacked_change,
    clip_rows,
    radius,
    random_change,
    unless_it_fell,
)
from midas.methods.learning import Learning, Step, perturbed
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
CHANGES = {"RS": random_change, "ADV": attacked_change}
ATTENTION = Method(patch_size=4)


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference" / "sdarts.json").read_text())


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def step_of(search):
    return Step(search.passes, batch(0), batch(1), search.weight_optimizer, search.restrictions)


def weighted(search, change):
    """The mixture of a pass with a change of a step."""
    with search.supernet.changed(change):
        found = search.passes.forward(batch(0))
    return found.p.clone(), found.loss.clone()


# --- numbers of the original
# Not compared: model_in_training_mode_during_attack, a difference (see `attacked_change`).


def test_clipped_rows_are_those_of_the_original(reference):
    torch.testing.assert_close(
        clip_rows(tensor(reference["clip"]["before"])), tensor(reference["clip"]["after"]), **EXACT
    )


def test_random_weights_are_those_of_the_original(reference):
    p = tensor(reference["alpha"]).softmax(-1)
    torch.testing.assert_close(p, tensor(reference["p"]), **EXACT)
    assert [case["epsilon"] for case in reference["random"]] == [0.03, 0.1, 0.3]
    for case in reference["random"]:
        torch.testing.assert_close(clip_rows(p + tensor(case["noise"])), tensor(case["result"]), **EXACT)


def test_attacked_weights_are_those_of_the_original_after_each_step(reference):
    p, linear, square = (tensor(reference[name]) for name in ("p", "lin", "quad"))

    def loss(weights):
        return (linear * weights).sum() + 0.5 * (square * weights**2).sum()

    for case in reference["adversarial"]:
        asked = []

        def gradient(weights, asked=asked):
            asked.append(weights)
            return linear + square * weights

        epsilon, steps = tensor(case["epsilon"]), case["steps"]
        assert (2 * epsilon / steps).item() == pytest.approx(case["step_size"], rel=1e-12)
        start = clip_rows(p + tensor(case["noise"])) if case["random_start"] else p
        found = attack(p, start, gradient, epsilon, steps)
        clipped = [*asked[0 if case["random_start"] else 1 :], found]
        torch.testing.assert_close(torch.stack(clipped), tensor(case["after_each_clip"]), **EXACT)
        kept = unless_it_fell(p, found, loss(p), loss(found))
        torch.testing.assert_close(kept, tensor(case["result"]), **EXACT)
        torch.testing.assert_close(loss(p), tensor(case["loss_before"]), **EXACT)
        torch.testing.assert_close(loss(found), tensor(case["loss_after"]), **EXACT)
        distance = (kept - p).abs().max()
        torch.testing.assert_close(distance, tensor(case["largest_distance_from_start"]), **EXACT)


def test_weights_are_put_back_if_the_loss_fell_as_in_the_original(reference):
    p, epsilon = tensor(reference["p"]), tensor(reference["restored"]["epsilon"])
    start = clip_rows(p + epsilon * tensor(reference["random"][2]["noise"]))
    found = attack(p, start, lambda weights: -20 * (weights - p), epsilon, 7)
    before, after = (-10 * ((weights - p) ** 2).sum() for weights in (p, found))
    assert after < before
    assert reference["restored"]["loss"] == "-10 * sum((weights - start)^2)"
    assert torch.equal(unless_it_fell(p, found, before, after), p) is reference["restored"]["result_equals_start"]


def test_the_schedule_is_that_of_the_original(reference, shared_data):
    schedules = json.loads((shared_data / "reference" / "schedules.json").read_text())
    for epochs in (50, 100):
        found = radius(torch.arange(epochs), 0.03, 0.3, epochs)
        torch.testing.assert_close(found, tensor(schedules[f"sdarts_epsilon_{epochs}"]), **EXACT)
    torch.testing.assert_close(
        radius(torch.arange(50), 0.03, 0.3, 50), tensor(reference["epsilon_schedule_50_epochs"]), **EXACT
    )


# --- in a search


def test_what_is_not_offered_stays_out():
    p = torch.tensor([[0.2, -torch.inf, 0.6], [-0.3, -torch.inf, -0.1], [-torch.inf] * 3])
    torch.testing.assert_close(clip_rows(p), torch.tensor([[0.25, 0, 0.75], [0, 0, 1], [0, 0, 0]]))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(("space", "cells"), [("nas_bench_201", 1), ("s1", 3)])
def test_an_epsilon_of_zero_is_first_order_darts_bit_for_bit(change, space, cells):
    found = stepped(Learning(weights=perturbed(change(0.0, 0.0, 2))), space=space, cells=cells)
    assert same(found, stepped(space=space, cells=cells))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("method", "space", "cells"), [(STATIC, "nas_bench_201", 2), (ATTENTION, "s1", 3), (STATIC, "s1", 3)]
)
def test_weights_learn_at_rows_that_sum_to_one_and_alpha_stays(change, method, space, cells):
    search = made(Learning(weights=perturbed(change(0.3, 0.3, 2))), method=method, space=space, cells=cells)
    before = [alpha.detach().clone() for alpha in search.architecture]
    old = [weight.detach().clone() for weight in search.weights]
    p, _ = weighted(search, change(0.3, 0.3, 2)(step_of(search)))
    plain = search.passes.forward(batch(0)).p
    assert ((p >= 0) & (p <= 1)).all()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p.sum(-1)))
    assert not torch.allclose(p, plain, atol=0.01)
    assert (p[plain == 0] == 0).all()  # what is not offered
    search.weight_step(batch(0), batch(1), SearchSums().train)
    assert all(torch.equal(a, b) for a, b in zip(before, search.architecture, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(old, search.weights, strict=True))
    assert not any(cell.changes for cell in search.supernet.cells)
    assert all(torch.isfinite(x).all() for x in parameters(search))


def test_noise_is_uniform_and_one_for_all_cells_of_a_kind():
    search = made(cells=2)
    change = random_change(0.1, 0.1, 2)(step_of(search))
    torch.manual_seed(5)
    p, _ = weighted(search, change)
    other, _ = weighted(search, change)
    assert torch.equal(p[:, :1].expand_as(p), p)
    assert not torch.equal(p, other)
    torch.manual_seed(5)
    plain = search.passes.forward(batch(0)).p[:, 0]
    noise = torch.cat([0.1 * (2 * torch.rand(1, edges, 5) - 1) for edges in (1, 2, 3)], 1)
    torch.testing.assert_close(p[:, 0], clip_rows(plain + noise))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_attention_has_other_noise_for_each_image_and_cell(change):
    search = made(method=ATTENTION, cells=2)
    p, _ = weighted(search, change(0.3, 0.3, 2)(step_of(search)))
    moved = p - search.passes.forward(batch(0)).p
    assert not torch.allclose(moved[:1].expand_as(moved), moved, atol=0.01)
    assert not torch.allclose(moved[:, :1].expand_as(moved), moved, atol=0.01)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_step_is_a_function_of_the_seed_it_begins_with(change):
    found = []
    for seed in (3, 3, 4):
        search = made(Learning(weights=perturbed(change(0.1, 0.1, 2))))
        torch.manual_seed(seed)
        search.step(batch(0), batch(1), SearchSums())
        found.append(search)
    assert same(*found[:2])
    assert not same(*found[1:])


@pytest.mark.parametrize("method", [STATIC, ATTENTION])
@pytest.mark.parametrize("epsilon", [0.03, 0.3])
def test_an_attack_does_not_lower_the_loss_that_it_saw(method, epsilon):
    search = made(method=method, cells=2)
    plain = search.passes.forward(batch(0)).loss.clone()
    change = attacked_change(epsilon, epsilon, 2)(step_of(search))
    p, attacked = weighted(search, change)
    _, drawn = weighted(search, random_change(epsilon, epsilon, 2)(step_of(search)))
    assert attacked > max(plain, drawn)
    if method is STATIC:
        assert torch.equal(p[:, :1].expand_as(p), p)


def test_where_the_loss_fell_p_is_kept_as_it_was(monkeypatch):
    monkeypatch.setattr(
        module, "attack", lambda p, start, gradient, *how: attack(p, start, lambda weights: -gradient(weights), *how)
    )
    search = made()
    plain, loss = (x.clone() for x in (search.passes.forward(batch(0)).p, search.passes.forward(batch(0)).loss))
    p, after = weighted(search, attacked_change(0.3, 0.3, 2)(step_of(search)))
    assert torch.equal(p, plain)
    assert after == loss


def test_an_attack_takes_seven_passes_and_two_forward():
    search, passes = made(Learning(weights=perturbed(attacked_change()))), []
    whole = search.passes._pass

    def counted(parameters, *others):
        passes.append(len(parameters))
        return whole(parameters, *others)

    search.passes._pass = counted
    search.step(batch(0), batch(1), SearchSums())
    assert passes == [1, 0, *[1] * 7, 0, len(search.weights)]


def test_the_weights_that_attention_looks_through_learn_at_attacked_p_too():
    """As if what was added to p were constant: with next to nothing added the gradient is DARTS's."""
    search = made(method=ATTENTION)
    plain = [g.clone() for g in search.passes.of_weights(batch(0)).gradients]
    found = perturbed(attacked_change(1e-7, 1e-7, 2))(step_of(search)).gradients
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(b, a, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("method", [STATIC, ATTENTION])
def test_a_masked_operation_takes_no_part(change, method):
    search = made(method=method)
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[:, 3] = kept[2] = False
    search.restrictions.keep({"cell": kept}, renormalises=True)
    p, _ = weighted(search, change(0.3, 0.3, 2)(step_of(search)))
    assert (p[..., ~kept] == 0).all()
    torch.testing.assert_close(p.sum(-1)[..., [0, 1, 3, 4, 5]], torch.ones(*p.shape[:2], 5))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_can_be_recorded(change, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(Learning(weights=perturbed(change())), cuda_graph=True, precision="float32")
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[:, 4] = False
    search.restrictions.keep({"cell": kept}, renormalises=True)
    search.begin(3)
    sums = SearchSums()
    for _ in range(2):
        search.step(batch(0), batch(1), sums)
    with Recordable():
        search.step(batch(0), batch(1), sums)
