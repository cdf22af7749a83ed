"""A2M beside numbers of its authors' code; without a climb it is first-order DARTS bit for bit."""

import json

import pytest
import torch
from recordable import Recordable
from stepping import STATIC, batch, made, parameters, same, stepped

from midas.config.method import Method
from midas.methods.field.steps.flat import direction, flat
from midas.methods.learning import Learning, Step, first_order
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

EXACT = {"rtol": 1e-9, "atol": 1e-12}
ATTENTION = Method(patch_size=4)
CASES = ["quadratic", "quadratic_rho_0", "quadratic_rho_0.01", "cubic", "quadratic_lookbehind_3"]
# "defective_darts_pt_port" is a mistake of one of the authors' scripts, which isn't imitated

# --- numbers of the original: a quadratic and a cubic loss


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "a2m.json"
    if not path.exists():
        pytest.skip("needs the numbers of the original code in ../shared/data/reference")
    return json.loads(path.read_text())


def vector(values):
    return torch.tensor(values, dtype=torch.float64)


class Found:
    """What the module finds on a loss of the reference, and the points and gradients that it went through."""

    def __init__(self, data, name):
        self.case, self.adam = data["cases"][name], data["adam"]
        self.hessian, self.b = vector(data["H"]), vector(data["b"])
        self.c = vector(data["c"]) * (name == "cubic")
        self.alpha = vector(data["alpha"]).requires_grad_()
        self.points, self.gradients = [], []
        (first,) = self.gradient()
        rho, epsilon, steps = (self.case[key] for key in ("rho", "epsilon", "ascent_steps"))
        (self.direction,) = direction([self.alpha], [first], self.gradient, rho, epsilon, steps, self.adam["lr"])

    def gradient(self):
        a = self.alpha
        loss = a @ self.hessian @ a / 2 + self.b @ a + (self.c * a**3).sum() / 6
        found = torch.autograd.grad(loss, a)
        self.points.append(a.detach().clone())
        self.gradients.append(found[0])
        return found

    def with_hessian_at(self, point):
        """The direction by the loss's own second derivatives."""
        g = self.gradients[1]
        return g + self.case["rho"] * (self.hessian @ g + self.c * point * g)


@pytest.mark.parametrize("name", CASES)
def test_each_number_of_the_original_is_found(name, reference):
    found = Found(reference, name)
    numbers = {
        "g1": found.gradients[0],
        "direction_code": found.direction,
        "alpha_perturbed": found.points[1],
        "g2": found.gradients[1],
        "direction_with_hessian_at_perturbed": found.with_hessian_at(found.points[1]),
        "direction_with_hessian_at_alpha": found.with_hessian_at(found.points[0]),
    }
    expected = {key: value for key, value in found.case.items() if key in numbers}
    assert len(expected) == (2 if name == "quadratic_lookbehind_3" else 6)
    for key, value in expected.items():
        torch.testing.assert_close(numbers[key], vector(value), **EXACT)
    assert found.case["alpha_restored_max_difference"] == 0
    assert torch.equal(found.alpha.detach(), vector(reference["alpha"]))


@pytest.mark.parametrize("name", CASES)
def test_adam_moves_the_architecture_as_the_original_does(name, reference):
    found = Found(reference, name)
    found.alpha.grad = found.direction
    adam = found.adam
    torch.optim.Adam([found.alpha], adam["lr"], adam["betas"], weight_decay=adam["weight_decay"]).step()
    torch.testing.assert_close(found.alpha.detach(), vector(found.case["alpha_after_first_adam_step"]), **EXACT)


@pytest.mark.parametrize("name", CASES[:3])
def test_on_a_quadratic_it_is_the_gradient_of_the_loss_after_the_climb(name, reference):
    """(I + rho H) times the gradient there."""
    found = Found(reference, name)
    top = found.alpha + found.case["rho"] * (found.hessian @ found.alpha + found.b)
    (expected,) = torch.autograd.grad(top @ found.hessian @ top / 2 + found.b @ top, found.alpha)
    torch.testing.assert_close(found.direction, expected, **EXACT)


def test_curvature_is_that_at_the_end_of_the_climb(reference):
    found = Found(reference, "cubic")
    torch.testing.assert_close(found.direction, found.with_hessian_at(found.points[1]), **EXACT)
    assert (found.direction - found.with_hessian_at(found.points[0])).abs().max() > 0.01


def test_with_a_look_behind_the_sum_of_the_climbs_gradients_leads(reference):
    found = Found(reference, "quadratic_lookbehind_3")
    assert len(found.gradients) == 6
    for low, high, gradient in zip(found.points[:3], found.points[1:4], found.gradients[:3], strict=True):
        torch.testing.assert_close(high, low + 0.1 * gradient, **EXACT)
    lead = found.adam["lr"] * sum(found.gradients[1:4])
    torch.testing.assert_close(found.points[4] - found.points[5], 2 * 0.01 * lead, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(found.direction, lead + 0.1 * found.hessian @ lead, **EXACT)


# --- in a search


def step_of(search, train, valid):
    return Step(search.passes, train, valid, search.weight_optimizer, search.restrictions)


@pytest.mark.parametrize("method", [STATIC, ATTENTION])
def test_without_a_climb_it_is_first_order_bit_for_bit(method):
    plain, found = (
        stepped(Learning(architecture=gradient), method=method, precision="float32")
        for gradient in (first_order, flat(0.0, 0.01))
    )
    assert same(plain, found)
    assert not same(plain, stepped(Learning(architecture=flat(10.0, 0.01)), method=method, precision="float32"))


@pytest.mark.parametrize("look_behind", [1, 3])
@pytest.mark.parametrize("method", [STATIC, ATTENTION, Method(patch_size=4, projections="frozen")])
def test_nothing_is_changed_before_the_optimisers_step(method, look_behind):
    """Neither weights nor the architecture, be it alphas or projections; loss and mixing weights are those before the climb."""
    learning = Learning(architecture=flat(0.1, 0.01, look_behind))
    search = stepped(learning, method=method, momentum=0.9)
    state = [value.clone() for value in search.supernet.state_dict().values()]
    expected = search.passes.of_architecture(batch(9))
    p = expected.p.clone()
    found = learning.architecture(step_of(search, batch(8), batch(9)))
    assert all(torch.equal(a, b) for a, b in zip(state, search.supernet.state_dict().values(), strict=True))
    assert torch.equal(found.p, p)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.accuracy, expected.accuracy)
    assert [g.shape for g in found.gradients] == [a.shape for a in search.architecture]
    assert all(torch.isfinite(g).all() for g in found.gradients)


@pytest.mark.parametrize("method", [STATIC, ATTENTION])
def test_it_is_the_derivative_of_the_validation_loss_along_the_climbs_gradient(method):
    """In double precision, with a term, which climbs too; H g is the loss differentiated twice."""
    rho = 0.05

    def term(supernet, epoch):
        return 0.1 * (epoch + 1) * sum(a.exp().sum() for a in supernet.architecture_parameters())

    search = made(Learning(architecture=flat(rho, 1e-5), terms=(term,)), method=method, precision="float32")
    search.supernet.double()
    search.passes.loss = lambda x, y: (
        torch.nn.functional.cross_entropy(search.supernet(x), y), torch.zeros(())
    )  # fmt: skip
    search.passes.epoch.fill_(1)
    valid = batch(1)[0].double(), batch(1)[1]
    found = search.learning.architecture(step_of(search, None, valid))
    start = [a.detach().clone() for a in search.architecture]

    def gradient_at(values):
        with torch.no_grad():
            for alpha, value in zip(search.architecture, values, strict=True):
                alpha.copy_(value)
        return [g.clone() for g in search.passes.of_architecture(valid).gradients]

    first = gradient_at(start)
    top = [a + rho * g for a, g in zip(start, first, strict=True)]
    g = gradient_at(top)
    above, below = (gradient_at([a + e * x for a, x in zip(top, g, strict=True)]) for e in (1e-5, -1e-5))
    for one, x, up, down in zip(found.gradients, g, above, below, strict=True):
        torch.testing.assert_close(one, x + rho * (up - down) / 2e-5, rtol=1e-9, atol=1e-9)
    plain = made(method=method, precision="float32")
    plain.supernet.double()
    without = plain.passes.of_architecture(valid).gradients
    for x, y, alpha in zip(first, without, start, strict=True):
        torch.testing.assert_close(x - y, 0.2 * alpha.exp(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("look_behind", [1, 3])
def test_it_can_be_recorded(look_behind, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(Learning(architecture=flat(0.1, 0.01, look_behind)), cuda_graph=True, precision="float32")
    sums = SearchSums()
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums)
    with Recordable():
        search.step(batch(0), batch(1), sums)


def test_passes_that_overwrite_what_the_last_one_left_give_the_same():
    """As those of a recorded step may."""

    def overwriting(step):
        of_architecture, held = step.passes.of_architecture, []

        def passed(valid):
            found = of_architecture(valid)
            for tensors in held:
                for old, new in zip(tensors, tensors_of(found), strict=True):
                    old.copy_(new)
            held.append(tensors_of(found))
            return found

        step.passes.of_architecture = passed
        try:
            return flat(0.1, 0.01)(step)
        finally:
            step.passes.of_architecture = of_architecture

    plain, found = stepped(Learning(architecture=flat(0.1, 0.01))), stepped(Learning(architecture=overwriting))
    for a, b in zip(parameters(plain), parameters(found), strict=True):
        assert torch.equal(a, b)


def tensors_of(found):
    return [found.loss, found.accuracy, found.p, *found.gradients]
