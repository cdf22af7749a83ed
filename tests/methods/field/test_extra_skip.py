"""DARTS-'s schedules and the mixture of an edge against the original's values."""

import json
from itertools import pairwise

import pytest
import torch
from recordable import Recordable

from midas.methods.field.extra_skip import SCHEDULES, linear, with_skip

EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def reference(shared_data):
    """Reads a file of reference values."""

    def read(name):
        path = shared_data / "reference" / f"{name}.json"
        if not path.is_file():
            pytest.skip("needs the reference values in ../shared/data/reference")
        return json.loads(path.read_text())

    return read


def test_schedules_are_those_of_the_reference(reference):
    listed = reference("darts_minus")["auxiliary_weight_50_epochs"]
    assert {name.lower() for name in listed} == set(SCHEDULES)
    for name, values in listed.items():
        found = [float(SCHEDULES[name.lower()](torch.tensor(float(e), dtype=torch.float64), 50)) for e in range(50)]
        assert found == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_the_default_is_the_linear_row_of_all_schedules(reference):
    found = [float(linear(torch.tensor(float(epoch), dtype=torch.float64), 50)) for epoch in range(50)]
    assert found == pytest.approx(reference("schedules")["darts_minus_beta_50"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 7, 50])
def test_schedules_begin_at_one_and_are_positive_in_the_last_epoch(name, epochs):
    found = [SCHEDULES[name](torch.tensor(epoch), epochs) for epoch in range(epochs)]
    assert found[0] == 1
    assert all(x.shape == () and x.dtype == torch.float32 for x in found)
    assert found[-1] > 0
    assert all(a >= b for a, b in pairwise(found))


def test_the_mixture_of_an_edge_is_that_of_the_reference(reference):
    held = reference("darts_minus")["mixed_op"]
    x = torch.tensor(held["x"], dtype=torch.float64)
    mixed = sum(w * factor * x for w, factor in zip(held["w"], (1, -2, 0.5), strict=True))
    for name, expected in held["cases"].items():
        found = with_skip(mixed, x, float(name.removeprefix("beta_")))
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_weight_the_mixture_is_what_it_was_and_its_type_stays(dtype):
    mixed, skip = torch.randn(2, 2, 3, 4, 4).to(dtype)
    found = with_skip(mixed, skip, torch.zeros(()))
    assert found.dtype == dtype
    assert torch.equal(found, mixed)


def test_the_skip_takes_its_weight_of_the_gradient():
    mixed, skip = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    mixed.requires_grad_(), skip.requires_grad_()
    with_skip(mixed, skip, torch.tensor(0.25)).sum().backward()
    assert (mixed.grad == 1).all()
    assert (skip.grad == 0.25).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_can_be_recorded_and_follows_the_epoch(name):
    epoch = torch.zeros((), dtype=torch.int64)
    mixed, skip = torch.randn(2, 2, 3, 4, 4)
    with Recordable():
        for number in (0, 3):
            epoch.fill_(number)
            found = with_skip(mixed, skip, SCHEDULES[name](epoch, 5))
    torch.testing.assert_close(found, mixed + float(SCHEDULES[name](torch.tensor(3.0), 5)) * skip)
