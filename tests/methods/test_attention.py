"""Known answers of the attention's options: normalised queries and keys, activations, and how projections decay."""

import pytest
import torch

from midas.config.method import Method
from midas.config.settings import Search
from midas.methods.composition import compose, supernet_of
from midas.spaces import SPACES
from midas.training.bilevel import Bilevel, make_supernet

NAS = SPACES["nas_bench_201"]
CPU = torch.device("cpu")


def weights_of(method, rows, fast=True):
    """Weights [B, R, E, O] of the second node of a cell (two edges) from means over patches of its inputs and candidates."""
    torch.manual_seed(0)
    source = supernet_of(NAS, Method(**method), 8, 1, 10, fast=fast).double().cells[0].mixing
    return source(2, rows[:2], rows[2:], (2, 2)).patches


def rows(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 8, generator=generator, dtype=torch.float64) for _ in range(2 + 8)]


def logits(weights):
    """Of all operations but "none", whose own is 0."""
    none = NAS.operations.index("none")
    found = weights.log() - weights[..., none : none + 1].log()
    return torch.cat([found[..., :none], found[..., none + 1 :]], -1)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("gain", [0.5, 4.0])
def test_logits_of_length_1_lie_between_minus_and_plus_the_gain_however_large_the_maps_are(gain, fast):
    large = [1e4 * x for x in rows()]
    found = logits(weights_of({"normalise": "length", "scale": gain}, large, fast))
    assert found.abs().max() <= gain * (1 + 1e-12)
    assert found.abs().max() > 0.5 * gain


@pytest.mark.parametrize("fast", [True, False])
def test_a_key_that_points_where_the_query_does_has_the_gain_as_its_logit(fast):
    torch.manual_seed(0)
    source = supernet_of(NAS, Method(normalise="length", scale=3.0), 8, 1, 10, fast=fast).double().cells[0].mixing
    given = rows()
    with torch.no_grad():
        source.key["2"].copy_(torch.eye(8)[None])
        query = torch.cat(given[:2], 2) @ source.query["2"].mT
        found = logits(source(2, given[:2], [query, -2 * query, *given[4:]], (2, 2)).patches)
    slots = source.slots[2]
    first, second = (divmod(place, len(NAS.operations)) for place in slots.mapped[:2])
    whole = torch.zeros(3, 4, *slots.shape, dtype=torch.float64)
    whole[..., [n for n, name in enumerate(NAS.operations) if name != "none"]] = found
    torch.testing.assert_close(whole[..., first[0], first[1]], torch.full((3, 4), 3.0, dtype=torch.float64))
    torch.testing.assert_close(whole[..., second[0], second[1]], torch.full((3, 4), -3.0, dtype=torch.float64))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("normalise", "unchanged"), [("length", True), ("layer_norm", False), ("none", False)])
def test_scaling_a_map_leaves_logits_of_length_1_unchanged(normalise, unchanged, fast):
    given = rows()
    scaled = [x * (7.0 if n in (0, 1, 4) else 1.0) for n, x in enumerate(given)]  # both inputs, and a candidate
    before, after = (weights_of({"normalise": normalise}, x, fast) for x in (given, scaled))
    assert torch.allclose(before, after, rtol=1e-12, atol=1e-12) is unchanged


def search(method, **settings):
    torch.manual_seed(0)
    settings = Search(channels=4, cells=1, epochs=1, **settings)
    return Bilevel(make_supernet(compose(Method(**method), NAS), settings, 10, CPU), settings, CPU)


def stepped(bilevel, gradient):
    """Architecture parameters before and after a step with this gradient."""
    before = [p.detach().clone() for p in bilevel.architecture]
    for parameter in bilevel.architecture:
        parameter.grad = torch.full_like(parameter, gradient)
    bilevel.architecture_optimizer.step()
    return list(zip(before, (p.detach() for p in bilevel.architecture), strict=True))


@pytest.mark.parametrize("decoupled", [False, True])
def test_without_decay_and_gradient_projections_stay_bit_for_bit(decoupled):
    for before, after in stepped(search({"weight_decay": 0.0, "decoupled_weight_decay": decoupled}), 0.0):
        assert torch.equal(before, after)
    for before, after in stepped(search({"decoupled_weight_decay": decoupled}), 0.0):  # the search's 1e-3
        assert not torch.equal(before, after)


def test_coupled_and_decoupled_decay_differ_as_their_formulas_say():
    rate, decay, gradient = 0.01, 0.3, 0.05
    coupled = stepped(search({"weight_decay": decay}, arch_lr=rate), gradient)
    for before, after in coupled:  # a first step of Adam is the sign of its gradient, into which the decay is added
        whole = gradient + decay * before
        torch.testing.assert_close(after, before - rate * whole / (whole.abs() + 1e-8), rtol=1e-5, atol=1e-6)
    decoupled = stepped(search({"weight_decay": decay, "decoupled_weight_decay": True}, arch_lr=rate), gradient)
    for before, after in decoupled:
        torch.testing.assert_close(after, before * (1 - rate * decay) - rate, rtol=1e-5, atol=1e-6)


def test_the_projections_decay_is_not_that_of_other_architecture_parameters():
    method = {"weight_decay": 0.0, "none_logit": "learned", "learn_scale": True}
    groups = search(method, arch_weight_decay=0.5).architecture_optimizer.param_groups
    shapes = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in groups}
    assert shapes == {0.0: {2, 3, 0}, 0.5: {1}}  # projections and scales; logits of "none"
    (alone,) = search({"weights": "static"}, arch_weight_decay=0.5).architecture_optimizer.param_groups
    assert alone["weight_decay"] == 0.5


def test_a_relu_parts_what_has_the_same_mean():
    """Maps of one mean over a patch: alike for projections of means, not for the ReLU of projected pixels."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    found = {}
    for name, method in (("means", {}), ("maps", {"activation": "relu", "projected": "maps"})):
        torch.manual_seed(1)
        supernet = supernet_of(NAS, Method(normalise="length", scale=8.0, **method), 8, 1, 10)
        supernet(x)
        p = supernet.mixture()[0].mean((0, 1, 2))
        skip, pool = (p[NAS.operations.index(name)] for name in ("skip_connect", "avg_pool_3x3"))
        found[name] = float((skip - pool).abs())
    assert found["means"] < 0.1 * found["maps"]
