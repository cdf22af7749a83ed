"""Second-order DARTS beside numbers of its authors' code; with a learning rate of zero it is first-order DARTS bit for bit."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recordable import Recordable
from stepping import STATIC, batch, made, parameters, same, stepped

from midas.config.method import Method
from midas.methods.decoding import decode_weights
from midas.methods.field.steps.second_order import reach, second_order, through_step, unrolled
from midas.methods.learning import Learning, Step, first_order
from midas.spaces import get_space
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

SECOND = Learning(architecture=second_order())
EXACT = {"rtol": 1e-9, "atol": 1e-12}
ATTENTION = Method(patch_size=4)

# --- numbers of the original: weights and architecture of two small models


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "darts_second_order.json"
    if not path.exists():
        pytest.skip("needs the numbers of the original code in ../shared/data/reference")
    return json.loads(path.read_text())


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def fixed(values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


class Toy:
    """Two weights, two operations of one edge."""

    def __init__(self, data):
        self.inputs = data["toy"]["inputs"]
        self.weights, self.alpha = [leaf(self.inputs["w"])], leaf(self.inputs["alpha"])
        self.buffers = fixed([self.inputs["momentum_buffer"]])

    def loss(self, half, weights):
        x, y = fixed([self.inputs[f"x_{half}"], self.inputs[f"y_{half}"]])
        p, (w,) = self.alpha.softmax(0), weights
        return (p[0] * w[0] * x + p[1] * w[1] * x**2 - y).square().mean()


class Tiny:
    """Two edges with four operations, five matrices, cross-entropy."""

    def __init__(self, data):
        self.inputs = data["tiny"]["inputs"]
        self.weights, self.alpha = [leaf(w) for w in self.inputs["weights"]], leaf(self.inputs["alpha"])
        self.buffers = fixed(self.inputs["momentum_buffer"])

    def loss(self, half, weights):
        (x,), y = fixed([self.inputs[f"x_{half}"]]), torch.tensor(self.inputs[f"y_{half}"])
        p, node = self.alpha.softmax(-1), 0
        for edge, source in enumerate((x[:, :3], x[:, 3:])):
            linear, tangent = weights[2 * edge : 2 * edge + 2]
            node = node + p[edge, 1] * source + p[edge, 2] * source @ linear.T
            node = node + p[edge, 3] * (source @ tangent.T).tanh()
        return F.cross_entropy(node @ weights[4].T, y)


CASES = [(model, case) for model in (Toy, Tiny) for case in ("first_step_no_buffer", "with_buffer")]
models = pytest.mark.parametrize(("model", "case"), CASES)


class Found:
    """What the module finds of a model, and what it went through."""

    def __init__(self, model, case, radius=0.01):
        self.model = model
        inputs, weights, alpha = model.inputs, model.weights, model.alpha
        buffers = model.buffers if case == "with_buffer" else [None] * len(weights)
        gradients = torch.autograd.grad(model.loss("train", weights), weights)
        options = inputs["eta"], inputs["momentum"], inputs["weight_decay"]
        self.step = [partial(unrolled, buffer=buffer, rate=options[0], momentum=options[1], decay=options[2])
                     for buffer in buffers]  # fmt: skip
        with torch.no_grad():
            ahead = [step(w, g) for step, w, g in zip(self.step, weights, gradients, strict=True)]
        self.before = [w.detach().clone() for w in weights]
        self.points = []

        def validation():
            self.ahead = [w.detach().clone() for w in weights]
            loss = model.loss("valid", weights)
            self.loss = loss.item()
            (self.direct, *self.v) = torch.autograd.grad(loss, [alpha, *weights])
            return [self.direct], self.v

        def training():
            self.points.append([w.detach().clone() for w in weights])
            return torch.autograd.grad(model.loss("train", weights), [alpha])

        (self.gradient,) = through_step(weights, ahead, validation, training, options[0], radius)

    def exact(self):
        """By automatic differentiation through the unrolled step."""
        weights = self.model.weights
        gradients = torch.autograd.grad(self.model.loss("train", weights), weights, create_graph=True)
        ahead = [step(w, g) for step, w, g in zip(self.step, weights, gradients, strict=True)]
        return torch.autograd.grad(self.model.loss("valid", ahead), self.model.alpha)[0]


def close(found, expected, **how):
    """A tensor or a list of them, beside numbers."""
    found = found if isinstance(found, list) else [found]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, torch.tensor(b, dtype=torch.float64), **how)


@models
def test_each_number_of_the_original_is_found(model, case, reference):
    model = model(reference)
    expected = reference[type(model).__name__.lower()][case]
    found = Found(model, case)
    close(found.ahead, expected["unrolled_weights"], **EXACT)
    assert found.loss == pytest.approx(expected["unrolled_valid_loss"], rel=1e-9, abs=1e-12)
    close(found.direct, expected["direct_gradient"], **EXACT)
    close(found.v, expected["v"], **EXACT)
    assert reach(found.v, 0.01).item() == pytest.approx(expected["R"], rel=1e-9, abs=1e-12)
    close(found.gradient, expected["gradient_code"], rtol=1e-6, atol=1e-9)  # a finite difference
    close(found.gradient, expected["gradient_exact"], rtol=1e-5, atol=1e-7)
    close(found.exact(), expected["gradient_exact"], **EXACT)
    first = torch.autograd.grad(model.loss("valid", model.weights), model.alpha)[0]
    close(first, expected["gradient_first_order"], **EXACT)
    distance = (found.gradient - found.exact()).abs().max().item()
    if type(model) is Tiny:
        assert distance == pytest.approx(expected["max_difference_code_exact"], rel=1e-2)
    else:  # it is rounding alone: the training loss of the toy is quadratic in the weights
        assert distance < 1e-14
    # weight_drift_of_the_three_in_place_perturbations: the original's own rounding, which copies don't have
    assert all(torch.equal(a, b) for a, b in zip(found.before, model.weights, strict=True))


@models
def test_adam_moves_the_architecture_as_the_original_does(model, case, reference):
    model = model(reference)
    model.alpha.grad = Found(model, case).gradient
    inputs = model.inputs
    torch.optim.Adam(
        [model.alpha], inputs["arch_lr"], inputs["arch_betas"], weight_decay=inputs["arch_weight_decay"]
    ).step()
    close(
        model.alpha.detach(), reference[type(model).__name__.lower()][case]["alpha_after_one_adam_step"],
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@models
def test_both_moves_have_the_length_of_the_radius(model, case, reference):
    found = Found(model(reference), case, radius=0.03)
    flat = [torch.cat([w.flatten() for w in point]) for point in (found.before, *found.points)]
    for point, sign in zip(flat[1:], (1, -1), strict=True):
        assert (point - flat[0]).norm().item() == pytest.approx(0.03, rel=1e-9)
        v = torch.cat([x.flatten() for x in found.v])
        torch.testing.assert_close(point - flat[0], sign * 0.03 * v / v.norm(), rtol=1e-9, atol=1e-15)


def test_the_error_falls_with_the_square_of_the_radius(reference):
    errors = []
    for radius in (0.08, 0.04, 0.02, 0.01):
        found = Found(Tiny(reference), "with_buffer", radius)
        errors.append((found.gradient - found.exact()).abs().max().item())
    for larger, smaller in pairwise(errors):
        assert larger / smaller == pytest.approx(4, rel=0.02)


def test_a_cell_is_decoded_as_the_original_does(shared_data):
    """Ties and "none" included; the order of a node's two edges is by strength there, by number here."""
    path = shared_data / "reference" / "darts_decode.json"
    if not path.exists():
        pytest.skip("needs the numbers of the original code in ../shared/data/reference")
    data, space = json.loads(path.read_text()), get_space("darts").with_none()
    columns = [data["operations"].index(operation) for operation in space.operations]
    alphas = torch.tensor([data["alpha_normal"], data["alpha_reduce"]], dtype=torch.float64)[..., columns]
    cell = decode_weights(alphas.softmax(-1).numpy(), None, ["normal", "reduce"], space)
    for kind, picks in data["genotype"].items():
        nodes = np.array(picks, dtype=object).reshape(4, 2, 2)
        assert [sorted(node) for node in cell.cells[kind]] == [sorted(map(tuple, node)) for node in nodes.tolist()]


# --- in a search


def step_of(search, train, valid):
    return Step(search.passes, train, valid, search.weight_optimizer, search.restrictions)


@pytest.mark.parametrize("method", [STATIC, ATTENTION])
@pytest.mark.parametrize("merged", [True, False])
def test_with_a_learning_rate_of_zero_it_is_first_order_bit_for_bit(method, merged):
    settings = {"lr": 0.0, "precision": "float32", "merge_edges": merged, "method": method}
    assert same(stepped(**settings), stepped(SECOND, **settings))
    assert not same(stepped(**settings | {"lr": 0.1}), stepped(SECOND, **settings | {"lr": 0.1}))


def unrolled_validation_loss(search, train, valid):
    """The validation loss after one step of the search's own optimiser, without clipping."""
    found = search.passes.of_weights(train)
    for weight, gradient in zip(search.weights, found.gradients, strict=True):
        weight.grad = gradient
    search.weight_optimizer.step()
    return search.passes.loss(*valid)[0].item()


def test_it_is_the_derivative_of_the_validation_loss_after_the_optimisers_own_step():
    """With momentum and decay, in double precision and with moves so small that no activation changes its sign."""

    def prepared(shift=0.0):
        search = made(SECOND, precision="float32", lr=0.01, momentum=0.9, weight_decay=0.01)
        search.supernet.double()
        search.passes.loss = lambda x, y: (F.cross_entropy(search.supernet(x), y), torch.zeros(()))
        train, valid = ((x.double(), y) for x, y in (batch(0), batch(1)))
        search.weight_step(train, valid, SearchSums().train)  # so that there is a momentum
        with torch.no_grad():
            search.architecture[0][1, 3] += shift
        return search, train, valid

    search, train, valid = prepared()
    second, first = (gradient(step_of(search, train, valid)) for gradient in (second_order(1e-6), first_order))
    assert second.loss.item() == pytest.approx(unrolled_validation_loss(search, train, valid), rel=1e-9)
    up, down = (unrolled_validation_loss(*prepared(shift)) for shift in (1e-6, -1e-6))
    expected = pytest.approx((up - down) / 2e-6, rel=1e-4)
    assert second.gradients[0][1, 3].item() == expected
    assert first.gradients[0][1, 3].item() != expected


@pytest.mark.parametrize("method", [STATIC, ATTENTION, Method(patch_size=4, projections="frozen")])
def test_nothing_but_the_architecture_is_changed(method):
    search = stepped(SECOND, method=method, momentum=0.9)
    state = [value.clone() for value in search.supernet.state_dict().values()]
    buffers = [search.weight_optimizer.state[w]["momentum_buffer"].clone() for w in search.weights]
    found = SECOND.architecture(step_of(search, batch(8), batch(9)))
    assert all(torch.equal(a, b) for a, b in zip(state, search.supernet.state_dict().values(), strict=True))
    after = [search.weight_optimizer.state[w]["momentum_buffer"] for w in search.weights]
    assert all(torch.equal(a, b) for a, b in zip(buffers, after, strict=True))
    assert [g.shape for g in found.gradients] == [a.shape for a in search.architecture]
    assert all(torch.isfinite(g).all() for g in found.gradients)


def test_a_term_adds_its_gradient_once():
    def term(supernet, epoch):
        return (epoch + 1) * sum(alpha.exp().sum() for alpha in supernet.architecture_parameters())

    plain, found = made(SECOND), made(SECOND._replace(terms=(term,)))
    found.begin(1)
    found.weight_optimizer.param_groups[0]["lr"] = plain.weight_optimizer.param_groups[0]["lr"]
    a, b = (search.learning.architecture(step_of(search, batch(0), batch(1))) for search in (plain, found))
    torch.testing.assert_close(b.gradients[0] - a.gradients[0], 2 * found.architecture[0].exp())
    assert torch.equal(a.loss, b.loss)


def test_frozen_operations_stand_still_in_the_unrolled_step_too():
    """The moves of the weights leave them out: what was frozen has the same value in every pass."""
    search = stepped(SECOND, momentum=0.9, weight_decay=0.01)
    operation = (0, 3, "nor_conv_3x3")
    search.restrictions.freeze(operation)
    ((mine, part),) = search.supernet.parameters_of(*operation)
    seen, loss = [], search.passes.loss
    search.passes.loss = lambda x, y: (seen.append([w.detach().clone() for w in search.weights]), loss(x, y))[1]
    SECOND.architecture(step_of(search, batch(8), batch(9)))
    number = next(number for number, weight in enumerate(search.weights) if weight is mine)
    assert len(seen) == 4
    for point in seen[1:]:
        assert torch.equal(point[number][part], seen[0][number][part])
        assert not torch.equal(point[0], seen[0][0])


def test_it_can_be_recorded(monkeypatch):
    """The unrolled step has the rate of the optimiser, which is a tensor then."""
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(SECOND, cuda_graph=True, precision="float32", momentum=0.9)
    search.restrictions.freeze((0, 0, "nor_conv_3x3"))
    search.begin(1)
    sums = SearchSums()
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums)
    with Recordable():
        search.step(batch(0), batch(1), sums)


def test_a_number_and_a_tensor_as_learning_rate_give_the_same():
    plain, recorded = (stepped(SECOND, cuda_graph=graph, precision="float32") for graph in (False, True))
    for a, b in zip(parameters(plain), parameters(recorded), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
