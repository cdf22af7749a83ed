"""Options of the attention and parts of a method that do nothing, leave nothing, or exclude each other are refused."""

import pytest
from small_configuration import problems, put

from midas.plan.check import load

MIDAS, STATIC, NAS = "methods.midas", "methods.static", "experiments.0"
ON_PATCHES = "not allowed with mixing 'patch'; it changes the weights of whole images"
SUMS = "it makes an edge's weights sum to 1: edge"
DRAWN = {"weights": "static", "gumbel": {}}
ENDS = "not allowed beside gumbel, whose draws differ between the two ends of its difference"
EACH = "it draws one operation of each edge: edge"
BESIDE = "not allowed beside alignment, whose finite difference its draws would change"
REFUSED = [
    ({"projected": "maps"}, "projected: 'maps' is not allowed without an activation, with which alone it differs from 'means'"),
    ({"weight_decay": -1}, "weight_decay: -1 is not allowed; input should be greater than or equal to 0"),
    ({"normalise": "unit"}, "normalise: 'unit' is not allowed; input should be 'none', 'layer_norm' or 'length'"),
    ({"beta": {}}, "beta: not allowed with weights 'attention'; it is a term of static logits"),
    ({"beta": 3}, "beta: 3 is not allowed; must be keys with values"),
    ({"flat": {"rho": -1}}, "flat.rho: -1 is not allowed; input should be greater than or equal to 0"),
    ({"flat": {"radius": 1}}, "flat.radius: unknown key; allowed: rho, epsilon"),
    ({"flat": {}, "unrolled": {}}, "flat: not allowed beside unrolled; a method has one kind of architecture step"),
    ({"projections": "frozen", "flat": {}}, "flat: not allowed with frozen projections, which take no step"),
    ({"mixing": "patch", "perturbation": {}}, f"perturbation: {ON_PATCHES}"),
    ({"alignment": {}, "perturbation": {}}, f"perturbation: {BESIDE}"),
    ({"taken": {"patience": 50}}, "taken.patience: 50 is not allowed; fewer than the epochs of experiments.0.search (8)"),
    ({"weights": "static", "normalise": "length"}, "normalise: not allowed with weights 'static', which has no attention"),
    ({"projections": "frozen", "weight_decay": 0}, "weight_decay: not allowed with frozen projections, which don't decay"),
    ({"weight_decay": 0, "decoupled_weight_decay": True}, "decoupled_weight_decay: not allowed where nothing decays"),
    ({"warmup_epochs": 1, "taken": {}}, "taken: not allowed with warmup_epochs, in which the architecture stays as it was drawn"),
    ({"distribution": "node", "perturbation": {}}, f"perturbation: not allowed with the softmax over node; {SUMS}"),
    ({"gumbel": {}}, "gumbel: not allowed with weights 'attention'; it draws from static logits"),
    ({"gumbel": {"last": 0}}, "gumbel.last: 0 is not allowed; input should be greater than 0"),
    ({**DRAWN, "distribution": "node"}, f"gumbel: not allowed with the softmax over node; {EACH}"),
    ({**DRAWN, "flat": {}}, f"flat: {ENDS}"),
    ({**DRAWN, "unrolled": {}}, f"unrolled: {ENDS}"),
    ({**DRAWN, "alignment": {}}, f"alignment: {ENDS}"),
    ({**DRAWN, "perturbation": {}}, "perturbation: not allowed beside gumbel, which computes one operation of an edge alone"),
    ({"decode_pooled": True}, "decode_pooled: true is not allowed in nas_bench_201, which keeps all edges; allowed: false, null"),
    ({"weights": "random", "decode_pooled": True}, "decode_pooled: not allowed with weights 'random', which is not searched"),
    ({"weights": "random", "flat": {}}, "flat: not allowed with weights 'random', which is not searched"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "line"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_makes_no_sense_is_one_line(raw, keys, line):
    for key, value in keys.items():
        put(raw, f"{MIDAS}.{key}", value)
    assert f"{MIDAS}.{line}" in problems(raw)


def test_frozen_projections_beside_what_learns_are_no_mistake(raw):
    for key, value in {"projections": "frozen", "learn_scale": True, "flat": {}}.items():
        put(raw, f"{MIDAS}.{key}", value)
    assert load(raw)


@pytest.mark.parametrize("keys", [{"weights": "static", "gumbel": {}}, {"weights": "static"}, {"distribution": "edge"}])
def test_edges_are_pooled_where_two_are_kept(raw, keys):
    put(raw, MIDAS, {**keys, "decode_pooled": True})
    put(raw, f"{NAS}.space", "darts")
    assert not [line for line in problems(raw) if "decode_pooled" in line]
    put(raw, MIDAS, {"decode_pooled": True})
    expected = f"{MIDAS}.decode_pooled: true is not allowed with the softmax over pairs, which ranks pairs of edges"
    assert expected in problems(raw)


@pytest.mark.parametrize("part", ["unrolled", "flat", "alignment"])
def test_finite_differences_need_float32(raw, part):
    put(raw, f"{STATIC}.{part}", {})
    assert load(raw)
    put(raw, f"{NAS}.search.precision", "bfloat16")
    expected = (
        f"{STATIC}.{part}: not allowed with {NAS}.search.precision 'bfloat16'; its finite difference needs float32"
    )
    assert expected in problems(raw)


def test_a_layer_norm_of_one_channel_leaves_nothing(raw):
    put(raw, f"{MIDAS}.normalise", "layer_norm")
    put(raw, f"{NAS}.search.channels", 1)
    expected = (
        f"{MIDAS}.normalise: 'layer_norm' is not allowed with 1 channel ({NAS}.search), which it would leave at 0"
    )
    assert expected in problems(raw)


@pytest.mark.parametrize(
    "keys",
    [
        {"beta": {}},
        {"beta": {}, "flat": {}},
        {"perturbation": {}, "unrolled": {}},
        {"alignment": {}},
        {"gumbel": {}, "beta": {}, "taken": {}},
    ],
)
def test_parts_go_together(raw, keys):
    for key in keys:
        put(raw, f"{STATIC}.{key}", {})
    assert load(raw)
