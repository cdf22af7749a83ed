"""Lambda-DARTS: numbers of the original, derivatives by autograd, and no term at all is first-order DARTS bit for bit."""

import json

import pytest
import torch

from midas.methods.field.steps.alignment import added, alignment, ascent, finite_step, strength

EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference" / "lambda_darts.json").read_text())


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def random_gradients(cells=4, entries=7):
    return torch.randn(cells, entries, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", ["corr", "signcorr"])
def test_lambda_u_and_epsilon_are_those_of_the_original(reference, name):
    gradients, expected, signs = tensor(reference["gradients_normal"]), reference[name], name == "signcorr"
    flat = gradients.flatten(1)
    u = ascent(flat, signs)
    size = finite_step(u, expected["epsilon_0"])
    torch.testing.assert_close(alignment(flat, signs), tensor(expected["value_of_the_regulariser"]), **EXACT)
    torch.testing.assert_close(u.view_as(gradients), tensor(expected["u_normal"]), **EXACT)
    torch.testing.assert_close(u.view_as(gradients), tensor(expected["gradient_by_autograd"]), **EXACT)
    torch.testing.assert_close(size, tensor(expected["epsilon"]), **EXACT)
    perturbation = torch.zeros(len(reference["kinds"]), *gradients.shape[1:], dtype=torch.float64)
    perturbation[[kind == "normal" for kind in reference["kinds"]]] = (size * u).view_as(gradients)
    torch.testing.assert_close(perturbation, tensor(expected["perturbation_of_each_cell"]), **EXACT)


def test_lambda_is_that_of_the_original(reference):
    found = alignment(tensor(reference["gradients_normal"]).flatten(1))
    torch.testing.assert_close(found, tensor(reference["Lambda_normal_cells"]), **EXACT)


def test_it_is_so_in_nas_bench_201(reference):
    expected = reference["nas_bench_201"]
    gradients = tensor(expected["gradients"])
    assert len(gradients) == expected["cells"]
    u = ascent(gradients.flatten(1))
    size = finite_step(u, expected["epsilon_0"])
    torch.testing.assert_close(alignment(gradients.flatten(1)), tensor(expected["Lambda"]), **EXACT)
    torch.testing.assert_close(size, tensor(expected["epsilon"]), **EXACT)
    torch.testing.assert_close((size * u).view_as(gradients), tensor(expected["perturbation_of_each_cell"]), **EXACT)


def test_the_gradient_with_the_term_is_that_of_the_original(reference):
    r = reference["added_gradient"]
    for parts in zip(
        *(
            r[f"{name}gradient{end}"]
            for name, end in [("", "_before"), ("forward_", ""), ("backward_", ""), ("", "_after")]
        ),
        strict=True,
    ):
        before, minus, plus, after = map(tensor, parts)
        torch.testing.assert_close(added(before, minus, plus, r["strength"], r["epsilon"]), after, **EXACT)


@pytest.mark.parametrize("epochs", [50, 100])
def test_the_schedule_is_that_of_the_original(shared_data, epochs):
    expected = json.loads((shared_data / "reference" / "schedules.json").read_text())[f"lambda_darts_{epochs}"]
    torch.testing.assert_close(strength(torch.arange(epochs), 0.25, epochs), tensor(expected), **EXACT)


# --- formulas


@pytest.mark.parametrize("signs", [False, True])
def test_u_is_the_gradient_of_lambda(signs):
    gradients = random_gradients().requires_grad_()
    (expected,) = torch.autograd.grad(alignment(gradients, signs), gradients)
    torch.testing.assert_close(ascent(gradients.detach(), signs), expected, **EXACT)


@pytest.mark.parametrize("signs", [False, True])
def test_equal_cells_are_aligned_and_are_not_shifted(signs):
    gradients = random_gradients(1).abs().expand(3, -1) if signs else random_gradients(1).expand(3, -1)
    u = ascent(gradients, signs)
    assert alignment(gradients, signs).item() == pytest.approx(1)
    torch.testing.assert_close(u, torch.zeros_like(u), rtol=0, atol=1e-15)
    assert (finite_step(u, 1e-4) * u).norm() < 1e-6
    assert torch.isfinite(finite_step(torch.zeros(3, 7), 1e-4))


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("cells", [1, 3])
def test_cells_without_a_gradient_and_a_cell_alone_have_no_u(signs, cells):
    gradients = random_gradients(cells)
    gradients[0] = 0
    u = ascent(gradients, signs)
    assert torch.isfinite(u).all()
    if cells == 1:
        assert alignment(random_gradients(1), signs) == 0
        assert (ascent(random_gradients(1), signs) == 0).all()


# --- in a search
