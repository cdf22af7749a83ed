"""Terms of the architecture's loss, gradients of several passes, frozen operations; doing nothing they are DARTS bit for bit."""

import pytest
import torch
from recordable import Recordable
from stepping import batch, made, parameters, same, stepped

from midas.methods.changes import Shared
from midas.methods.learning import Learning, first_order, on_train, perturbed
from midas.spaces import SPACES
from midas.supernet.cpu import kernels
from midas.training.recorded import RecordedSteps
from midas.training.sums import SearchSums

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


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize(
    ("space", "operation", "count"),
    [("nas_bench_201", (0, 3, "nor_conv_3x3"), 1), ("darts", (1, 5, "sep_conv_3x3"), 4)],
)
def test_a_frozen_operation_stands_still_and_all_else_learns(space, operation, count, merged):
    search = made(space=space, cells=3 if space == "darts" else 1, merge_edges=merged, momentum=0.9, weight_decay=0.01)
    sums = SearchSums()
    search.step(batch(0), batch(1), sums)  # so that there is a momentum
    search.restrictions.freeze(operation)
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


# --- recorded as a CUDA graph


def decays(supernet, epoch):
    return 0.1 * epoch * supernet.cells[0].mixing.alpha.exp().sum()


def halves(step):
    one, other = step.passes.of_architecture(step.valid), step.passes.of_architecture(step.train)
    return one._replace(gradients=tuple((a + b) / 2 for a, b in zip(one.gradients, other.gradients, strict=True)))


@pytest.mark.parametrize(
    "learning",
    [
        Learning(terms=(decays,)),
        Learning(architecture=halves),
        Learning(
            weights=perturbed(lambda step: Shared(lambda p, place: p + 0.1 * step.passes.epoch * torch.rand_like(p)))
        ),
    ],
)
def test_what_a_method_adds_can_be_recorded(learning, monkeypatch):
    """With frozen and masked operations too; a schedule follows the epoch, since it is a tensor."""
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(learning, cuda_graph=True, precision="float32")
    search.restrictions.freeze((0, 0, "nor_conv_3x3"))
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[:, 4] = False
    search.restrictions.keep({"cell": kept}, renormalises=True)
    search.begin(3)
    sums = SearchSums()
    for _ in range(2):  # what is made once is made in the first
        search.step(batch(0), batch(1), sums)
    with Recordable():
        search.step(batch(0), batch(1), sums)


def test_a_step_is_recorded_anew_when_an_operation_is_frozen_or_masked(monkeypatch):
    recorded = []

    class Counted:
        def __init__(self, compute):
            recorded.append(compute)

        def __call__(self):
            pass

    monkeypatch.setattr("midas.training.recorded.Recorded", Counted)
    search = made()
    steps = RecordedSteps(search, [], SearchSums())
    for _ in range(2):
        steps(True)
    search.restrictions.freeze((0, 0, "nor_conv_3x3"))
    steps(True)
    steps(True)
    search.restrictions.keep({"cell": torch.ones(6, 5, dtype=torch.bool)}, renormalises=False)
    steps(True)
    assert len(recorded) == 3


def test_a_gradient_may_freeze_operations_in_the_midst_of_an_epoch():
    def freezes(step):
        step.restrictions.freeze((0, 1, "nor_conv_1x1"))
        return on_train(step)

    search = made(Learning(weights=freezes))
    ((mine, part),) = search.supernet.parameters_of(0, 1, "nor_conv_1x1")
    before = mine.detach()[part].clone()
    search.step(batch(0), batch(1), SearchSums())
    assert torch.equal(mine.detach()[part], before)
