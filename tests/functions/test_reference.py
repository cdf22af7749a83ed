"""The space of functions against what the original code of AutoRA computes."""

import json

import pytest
import torch

from midas.functions.fitting import Fit, decode
from midas.functions.learning import drift, original, squared
from midas.functions.network import FunctionNetwork
from midas.methods.learning import Learning
from midas.methods.passes import Passes
from midas.spaces.functions import PRIMITIVES, Primitive, function_space
from midas.training.bilevel import Bilevel
from midas.training.sums import Averages

CPU = torch.device("cpu")
HOW = Fit()


@pytest.fixture(scope="module")
def reference(shared_data):
    path = shared_data / "reference" / "autora.json"
    if not path.exists():
        pytest.skip("needs the reference values in ../shared/data/reference")
    return json.loads(path.read_text())


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def same(found, wanted, **how):
    torch.testing.assert_close(found.detach(), doubles(wanted), rtol=1e-9, atol=1e-12, **how)


@pytest.fixture(params=["original", "fair"])
def made(request, reference):
    """What the original gives, a network with its parameters, the composition, and the batch."""
    given = reference["inputs"]
    space = function_space(reference["primitives"], 2, 2)
    composition = original(request.param, space, HOW.arch_lr, 3e-4)
    network = FunctionNetwork(space, composition.mixing).double()
    with torch.no_grad():
        network.cell.mixing.alpha.copy_(doubles(given["alphas"]))
        for edge, row in enumerate(given["parameters"]):
            for name, pair in zip(reference["primitives"], row, strict=True):
                for value, wanted in zip(network.operation(edge, name).values(), pair, strict=False):
                    value.fill_(wanted)
    return reference["cases"][request.param], network, composition, (doubles(given["x"]), doubles(given["y"]))


def test_output_loss_and_gradient(made):
    wanted, network, composition, batch = made
    same(network(batch[0]), wanted["output"])
    passes = Passes(network, HOW.search(), CPU, composition.learning.terms, squared)
    found = passes.of_architecture(batch)
    terms = sum((term(network, passes.epoch) for term in composition.learning.terms), torch.zeros(()))
    same(found.loss + terms, wanted["loss_with_regulariser"])
    (gradient,) = found.gradients
    same(gradient, wanted["gradient_alpha"])


def test_drift_and_the_logits_after_a_step(made):
    wanted, network, composition, batch = made
    moves = drift(network.space.operations, HOW.arch_lr, 3e-4)
    same(moves.expand(5, -1), wanted["drift_of_one_step"])
    bilevel = Bilevel(network, HOW.search(), CPU, composition.learning._replace(loss=squared))
    bilevel.architecture_step(batch, batch, Averages())
    same(network.cell.mixing.alpha, wanted["alpha_after_first_step"])


def test_the_decoded_operations(made):
    wanted, network, _, batch = made
    operations = network.space.operations
    assert [operations.index(name) for name in decode(network, batch, "max")] == wanted["argmax_decode"]


def test_operations_have_the_originals_values_complexity_and_labels(reference):
    given = reference["operations"]
    values = {"slope": given["slope"], "bias": given["bias"], "beta": given["soft_beta"]}
    assert given["each"].keys() == PRIMITIVES.keys()
    for name, wanted in given["each"].items():
        space = function_space([name], 1, 1)
        network = FunctionNetwork(space, original("original", space, 0.1, 0.1).mixing).double()
        own = network.operation(0, name)
        with torch.no_grad():
            for one, value in own.items():
                value.fill_(values[one])
        same(network(doubles(given["x"])), wanted["output"])
        assert PRIMITIVES[name].complexity == wanted["complexity_for_decay"]
        assert len(own) == len(wanted["parameter_shapes"])  # of one number each
        assert all(set(shape) == {1} for shape in wanted["parameter_shapes"])
        label = PRIMITIVES[name].label(values)
        if wanted["label_console"] is None:  # it has none there
            assert label.startswith(name.removeprefix("linear_"))
        else:  # two spellings differ: a sum with a negative number, and a blank before a bracket
            assert label == wanted["label_console"].replace("+ -", "- ").replace(" )", ")")


def test_a_label_in_latex():
    assert (
        PRIMITIVES["linear_exp"].label({"slope": 2, "bias": 1}, "x_{1}", latex=True) == r"e^{2.00 \cdot x_{1} + 1.00}"
    )
    assert Primitive("subtract", None).label({}, latex=True) == "- x"


def test_drift_alone_moves_the_complex_down_three_times_as_far():
    """A gradient of 0 and no weight decay."""
    space = function_space(["none", "add", "linear", "mult"], 1, 1)
    composition = original("original", space, 0.003, 3e-4)
    network = FunctionNetwork(space, composition.mixing).double()
    before = network.cell.mixing.alpha.detach().clone()

    def still(step):
        found = step.passes.forward(step.valid)
        return found._replace(gradients=tuple(torch.zeros_like(p) for p in step.passes.architecture))

    learning = Learning(architecture=still, before=composition.learning.before, loss=squared)
    bilevel = Bilevel(network, HOW._replace(arch_weight_decay=0).search(), CPU, learning)
    batch = torch.ones(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
    bilevel.architecture_step(batch, batch, Averages())
    moved = (before - network.cell.mixing.alpha.detach())[0] / 9e-7
    torch.testing.assert_close(moved, doubles([0, 1, 3, 2]), rtol=1e-6, atol=1e-6)
