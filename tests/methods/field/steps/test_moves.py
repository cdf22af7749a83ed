"""Parameters that are moved for some passes: put back bit for bit, left alone where they have no gradient."""

import pytest
import torch

from midas.methods.field.steps.flat import direction
from midas.methods.field.steps.moves import central_difference, restored, write
from midas.methods.field.steps.second_order import reach, through_step, unrolled


def test_parameters_are_put_back_even_when_a_pass_fails():
    parameter = torch.nn.Parameter(torch.tensor([0.1, 0.7, -3e-5]))
    before, place = parameter.detach().clone(), parameter.data_ptr()
    other = torch.zeros(2)
    with pytest.raises(RuntimeError, match="size"), restored([parameter, other]):
        write([parameter, other], [before + 0.3, before])  # the second doesn't fit
    assert torch.equal(parameter, before)
    assert parameter.data_ptr() == place


def test_a_parameter_without_a_gradient_stays_and_is_given_none():
    """So that an optimiser leaves it out."""
    known, other = torch.tensor([1.0, 2.0]), torch.tensor([5.0])
    points = []

    def gradient():
        points.append(other.clone())
        return [2 * known, None]

    assert (
        central_difference([known, other], [known.clone(), other.clone()], [known.clone(), None], 0.1, gradient)[1]
        is None
    )
    for look_behind in (1, 2):
        assert direction([known, other], gradient(), gradient, 0.1, 0.01, look_behind)[1] is None
    assert all(torch.equal(point, other) for point in points)
    assert unrolled(other, None, torch.ones(1), 0.1, 0.9, 0.01) is other


def test_a_validation_loss_that_is_flat_in_the_weights_leaves_the_direct_gradient():
    weight, zero = torch.tensor([1.0, 2.0]), torch.zeros(2)
    assert torch.isfinite(reach([zero], 0.01))
    (found,) = through_step(
        [weight], [weight - 0.1], lambda: ([torch.tensor([3.0])], [zero]), lambda: [weight.sum()[None]], 0.1, 0.01
    )
    assert torch.equal(found, torch.tensor([3.0]))
