"""Every value of the originals' own code on small inputs: reference/zero_cost.json."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from midas.proxies.classic import gradient_norms, parameters, synflow_scores
from midas.proxies.networks import make_network, probe_by_stages
from midas.proxies.probing import Probe, backward, copied, gradient, layers_of
from midas.proxies.robust import Constants, code_pair, code_scores, outputs, paper_pair, paper_scores, total
from midas.spaces.genotype import parse

CELLS = ("no_9930", "mixed", "all_skip")
OPERATIONS = ("none", "avg_pool_3x3", "nor_conv_3x3", "nor_conv_1x1", "skip_connect")
"""In the order by which the original numbers its modules."""


def near(found, expected):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference/zero_cost.json").read_text())


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def tiny(reference):
    """The tiny network with its stored weights, its images and classes, and what was found of it."""
    stored = reference["tiny_network"]
    parts = {"conv1": nn.Conv2d(3, 4, 3, 1, 1, bias=False), "relu1": nn.ReLU()}
    parts |= {"conv2": nn.Conv2d(4, 4, 3, 1, 1, bias=False), "relu2": nn.ReLU(), "mean": Mean(), "fc": nn.Linear(4, 3)}
    network = nn.Sequential(OrderedDict(parts)).double()
    network.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in stored["weights"].items()})
    probe = Probe(network, {"conv1": "relu2", "conv2": "relu2", "fc": "mean"})
    return probe, torch.tensor(stored["x"], dtype=torch.float64), torch.tensor(stored["y"]), stored


def test_the_code_variants_steps_are_those_of_the_original(tiny):
    probe, x, y, stored = tiny
    known = stored["croze_code"]
    pair = code_pair(probe, x, y, Constants())
    assert known["absolute_weights_used"] is all(bool((p >= 0).all()) for p in pair.clean.parameters())
    assert {name for name, _ in pair.robust.named_parameters()} == set(known["perturbed_weights"])
    for name, weight in pair.robust.named_parameters():
        near(weight.detach(), known["perturbed_weights"][name])
    near(pair.attacked, known["x_attacked"])
    clamped = (pair.attacked == 0) | (pair.attacked == 1)
    assert float(clamped.double().mean()) == known["share_of_pixels_at_the_clamp"]
    for layer in known["gradient_clean"]:
        near(gradient(layers_of(pair.clean)[layer]), known["gradient_clean"][layer])
        near(gradient(layers_of(pair.robust)[layer]), known["gradient_robust"][layer])


def test_the_gradients_left_over_from_the_attack_are_what_the_code_adds(tiny):
    probe, x, y, stored = tiny
    known = stored["croze_code"]["gradient_robust_without_the_leftover_of_fgsm"]
    pair = code_pair(probe, x, y, Constants())
    robust = copied(pair.robust, torch.float64)
    backward(robust, pair.attacked, y, set())
    for layer, expected in known.items():
        near(gradient(layers_of(robust)[layer]), expected)


def test_the_code_variants_factors_and_score(tiny):
    probe, x, y, stored = tiny
    known, found = stored["croze_code"], code_scores(probe, x, y)
    assert list(found) == list(known["per_layer"])
    for layer, expected in known["per_layer"].items():
        factors = found[layer]
        near(
            [factors.parameter, factors.gradient, factors.feature, factors.score],
            [expected[name] for name in ("parameter", "gradient", "feature", "score")],
        )
    near(total(found), known["total"])


def test_the_papers_formula(tiny):
    probe, x, y, stored = tiny
    known = stored["croze_formula_of_the_paper_own_reading"]
    defaults = Constants()
    assert known["constants"] == {"beta": defaults.ascent, "epsilon": defaults.attack, "gamma": defaults.descent}
    # there the first layer's features are its own map, as `outputs` has them
    found = paper_scores(paper_pair(outputs(probe.network), x, y, defaults), defaults)
    assert list(found) == list(known["per_layer"])
    for layer, expected in known["per_layer"].items():
        factors = found[layer]
        near(
            [factors.feature, factors.parameter, factors.gradient, factors.score],
            [expected[name] for name in ("Z", "P", "G", "score")],
        )
    near(total(found), known["total"])


def test_the_older_scores_of_the_tiny_network(tiny):
    probe, x, y, stored = tiny
    flow = synflow_scores(probe.network, (6, 6))
    near([*flow.values(), sum(flow.values())], [*stored["synflow"]["per_layer"].values(), stored["synflow"]["total"]])
    network = copied(probe.network, torch.float64)
    backward(network, x, y, set())
    norms = gradient_norms(network)
    near(
        [*norms.values(), sum(norms.values())],
        [*stored["grad_norm"]["per_layer"].values(), stored["grad_norm"]["total"]],
    )
    assert list(flow) == list(norms) == list(stored["synflow"]["per_layer"]) == list(stored["grad_norm"]["per_layer"])
    assert parameters(probe.network) == stored["params"]


# --- three cells of NAS-Bench-201, by the rules in the file's `definition`


def original_names(genotype):
    """Name of each layer of our network of a cell -> the original's, and the number of its tensor."""
    names = {"stem.0": ("stem.net.0", 0), "head.4": ("top.classifier", 500)}
    operations = [operation for node in genotype.cells["cell"] for operation, _ in node]
    for place in range(17):
        stage, cell = divmod(place, 6)
        if cell == 5:
            block, first = f"reduction{stage + 1}", 410 + 10 * stage
            for ours, theirs, number in (
                ("shortcut.1", "residual.1", 0),
                ("block.0.1", "conv_a.op.1", 1),
                ("block.1.1", "conv_b.op.1", 2),
            ):
                names[f"cells.{place}.{ours}"] = (f"{block}.{theirs}", first + number)
        else:
            for edge, operation in enumerate(operations):
                option = 5 * edge + OPERATIONS.index(operation)
                number = 100 * (stage + 1) + 10 * cell + edge
                names[f"cells.{place}.graph.edges.{edge}.1"] = (
                    f"stack_cell{stage + 1}.{cell}.options.{option}.op.1",
                    number,
                )
    return names


@torch.no_grad()
def fill(network, names):
    """The weights and biases of the definition."""

    def wave(tensor, number, size):
        i = torch.arange(tensor.numel(), dtype=torch.float64)
        tensor.copy_((size * torch.sin(0.9 * i + 0.37 * number + 0.1)).view(tensor.shape))

    network.double()
    for name, layer in layers_of(network).items():
        number = names[name][1]
        wave(layer.weight, number, layer.weight[0].numel() ** -0.5)
        if layer.bias is not None:
            wave(layer.bias, 501.5 if number == 500 else number + 0.5, 0.05)
    return network


IMAGES = (1.2 * torch.sin(0.013 * torch.arange(4 * 3 * 16 * 16, dtype=torch.float64) + 0.4)).view(4, 3, 16, 16)
TARGETS = torch.tensor([1, 7, 3, 0])


ROUNDED = [f"reduction{block}.conv_{name}.op.1" for block in (1, 2) for name in "ab"]
"""Layers of the cell of skips alone through which nothing flows in SynFlow: the normalisation behind them takes it out. What the
original has there, 1e-20 and less of the whole, is what rounding left; ours is of that size, not equal."""


def by_layer(found, names, known, rounded=()):
    """Values of all layers under the original's names, and their sum, as the original has them; `rounded` ones are nothing."""
    renamed = {names[layer][0]: value for layer, value in found.items()}
    assert set(renamed) == set(known["per_layer"])
    compared = [layer for layer in known["per_layer"] if layer not in rounded]
    near([renamed[layer] for layer in compared], [known["per_layer"][layer] for layer in compared])
    assert all(max(renamed[layer], known["per_layer"][layer]) < 1e-18 * known["total"] for layer in rounded)
    near(sum(renamed.values()), known["total"])


@pytest.mark.parametrize("cell", CELLS)
def test_cells_of_nas_bench_201(cell, reference):
    stored = reference["nas_bench_201"]
    genotype, known = parse(stored["architectures"][cell]), stored["results"][cell]
    names = original_names(genotype)
    network = fill(make_network(genotype, 4, 5, 10, "reductions"), names)
    found = code_scores(probe_by_stages(genotype, network, 5), IMAGES, TARGETS)
    by_layer({layer: factors.score for layer, factors in found.items()}, names, known["croze"])
    by_layer(synflow_scores(network, (16, 16)), names, known["synflow"], ROUNDED if cell == "all_skip" else ())
    # the original's networks also hold the normalisation of stem and head (2 times 4 + 16), which they don't use
    assert parameters(network) + 2 * (4 + 16) == known["weights_kept"]
    trained = copied(fill(make_network(genotype, 4, 5, 10, "all"), names), torch.float64)
    backward(trained, IMAGES, TARGETS, set())
    by_layer(gradient_norms(trained), names, known["grad_norm"])


def test_every_value_of_the_file_is_compared(reference):
    tiny, benchmark = reference["tiny_network"], reference["nas_bench_201"]
    assert set(reference) == {"produced_by", "torch", "dtype", "tiny_network", "nas_bench_201"}
    assert reference["dtype"] == "float64"
    assert set(tiny) == {
        *("definition", "weights", "x", "y"),
        *("croze_code", "croze_formula_of_the_paper_own_reading", "synflow", "grad_norm", "params"),
    }
    assert set(tiny["croze_code"]) == {
        *("absolute_weights_used", "perturbed_weights", "x_attacked", "share_of_pixels_at_the_clamp", "gradient_clean"),
        *("gradient_robust", "gradient_robust_without_the_leftover_of_fgsm", "per_layer", "total"),
    }
    assert set(benchmark["results"]) == set(CELLS) == set(benchmark["architectures"])
    for result in benchmark["results"].values():
        assert set(result) == {"croze", "synflow", "grad_norm", "weights_kept"}
