"""Options of the attention and parts of a method that do nothing, leave nothing, or exclude each other are refused."""

import pytest
from small_configuration import problems, put

from midas.plan.check import load

MIDAS, STATIC, NAS = "methods.midas", "methods.static", "experiments.0"
ON_PATCHES = "not allowed with mixing 'patch'; it changes the weights of whole images"
SUMS = "it makes an edge's weights sum to 1: edge"
GOES_BY = "what goes by weighs as much as an edge whose weights sum to 1: edge"
DRAWN = {"weights": "static", "gumbel": {}}
ENDS = "not allowed beside gumbel, whose draws differ between the two ends of its difference"
EACH = "it draws one operation of each edge: edge"
BESIDE = "not allowed beside alignment, whose finite difference its draws would change"
FIXED = "not allowed beside selection.fixed, with which the architecture takes no step"
UNROLLED = "not allowed beside unrolled, whose step of the weights knows of nothing that is frozen"
GOES_ON = "not allowed beside partial, which goes on on an edge whose operations are removed"
DECAYS = "input should be 'linear', 'cosine', 'slow_cosine' or 'none'"
COMPETE = "not allowed with a softmax, whose weights compete; it needs distribution 'sigmoid'"
SIGMOID = {"weights": "static", "distribution": "sigmoid"}
REFUSED = [
    ({"projected": "maps"}, "projected: 'maps' is not allowed without an activation, with which alone it differs from 'means'"),
    ({"weight_decay": -1}, "weight_decay: -1 is not allowed; input should be greater than or equal to 0"),
    ({"normalise": "unit"}, "normalise: 'unit' is not allowed; input should be 'none', 'layer_norm' or 'length'"),
    ({"beta": {}}, "beta: not allowed with weights 'attention'; it is a term of static logits"),
    ({"beta": 3}, "beta: 3 is not allowed; must be keys with values"),
    ({"flat": {"rho": -1}}, "flat.rho: -1 is not allowed; input should be greater than or equal to 0"),
    ({"oles": {"compare": "training"}}, "oles.compare: 'training' is not allowed; input should be 'accumulated' or 'validation'"),
    ({"oles": {"window": 0}}, "oles.window: 0 is not allowed; input should be greater than or equal to 1"),
    ({"weights": "random", "oles": {}}, "oles: not allowed with weights 'random', which is not searched"),
    ({"selection": {}, "taken": {}}, "taken: not allowed beside selection, which ends with the last epoch"),
    ({"selection": {"fixed": True}, "flat": {}}, f"flat: {FIXED}"),
    ({"selection": {"fixed": True}, "oles": {}}, f"oles: {FIXED}"),
    ({"selection": {"fixed": True}, "warmup_epochs": 1}, f"warmup_epochs: {FIXED}"),
    ({"selection": {}, "distribution": "node"}, f"selection: not allowed with the softmax over node; {SUMS}"),
    ({"selection": {}, "mixing": "patch"}, f"selection: {ON_PATCHES}"),
    ({"selection": {"interval": 0}}, "selection.interval: 0 is not allowed; input should be greater than or equal to 1"),
    ({"selection": {"by": "rank"}}, "selection.by: 'rank' is not allowed; input should be 'accuracy' or 'loss'"),
    ({"weights": "random", "selection": {}}, "selection: not allowed with weights 'random', which is not searched"),
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
    ({"dirichlet": {}}, "dirichlet: not allowed with weights 'attention'; it draws static weights"),


    ({"partial": {"channels": 3}}, f"partial.channels: 3 does not divide the 8 channels of {NAS}.search; allowed: 1, 2, 4, 8"),
    ({"partial": {"channels": 0}}, "partial.channels: 0 is not allowed; input should be greater than or equal to 1"),
    ({"distribution": "node", "partial": {}}, f"partial: not allowed with the softmax over node; {GOES_BY}"),
    ({"weights": "random", "partial": {}}, "partial: not allowed with weights 'random', which is not searched"),
    ({"extra_skip": {"decay": "fast"}}, f"extra_skip.decay: 'fast' is not allowed; {DECAYS}"),
    ({"distribution": "sigmoid"}, "distribution: 'sigmoid' is not allowed with weights 'attention'; allowed: edge, node, pairs"),
    ({"weights": "static", "separation": {}}, f"separation: {COMPETE}"),
    ({"sparse": {}}, f"sparse: {COMPETE}"),
    ({**SIGMOID, "sparse": {}}, "sparse: not allowed in nas_bench_201, whose nodes keep all edges"),
    ({"sparse": {"threshold": 2}}, "sparse.threshold: 2 is not allowed; input should be less than or equal to 1"),
    ({**SIGMOID, "perturbation": {}}, f"perturbation: not allowed with the softmax over sigmoid; {SUMS}"),
    ({"unrolled": {}, "oles": {}}, f"oles: {UNROLLED}"),
    ({"partial": {}, "selection": {}}, f"selection: {GOES_ON}"),
    ({**SIGMOID, "dirichlet": {}}, "dirichlet: not allowed with the softmax over sigmoid; it draws those of an edge: edge"),
    ({"partial": {}, "extra_skip": {}}, "extra_skip: not allowed beside partial, where a part of the channels goes by already"),
    ({"weights": "random", "extra_skip": {}}, "extra_skip: not allowed with weights 'random', which is not searched"),
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
    for keys in ({"learn_scale": True}, {"learn_scale": False, "partial": {}, "distribution": "edge"}):
        for key, value in {"projections": "frozen", "flat": {}, **keys}.items():
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
        *({"beta": {}}, {"beta": {}, "flat": {}}, {"perturbation": {}, "unrolled": {}}, {"alignment": {}}),
        *({"partial": {}, "perturbation": {}}, {"partial": {}, "alignment": {}, "flat": {}, "beta": {}}),
        {"oles": {}, "flat": {}, "perturbation": {}},
        {"selection": {}, "oles": {}, "beta": {}, "perturbation": {}},
        {"extra_skip": {}, "beta": {}},
        {"gumbel": {}, "beta": {}, "taken": {}},
    ],
)
def test_parts_go_together(raw, keys):
    for key in keys:
        put(raw, f"{STATIC}.{key}", {})
    assert load(raw)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"nobody": {}}, "search_of: 'nobody' is no method that this experiment searches; allowed: "),
        (
            {"static": {"nesterov": True, "momentum": 0}},
            "search_of.static.nesterov: true is not allowed with momentum 0",
        ),
        ({"static": {"batch_size": 5000}}, "search_of.static.batch_size: 5000 is not allowed; digits has halves of "),
        (
            {"static": {"cuda_graph": True, "protocol": "A50"}},
            "search_of.static.cuda_graph: not allowed with clip_architecture and order 'weights_first'",
        ),
        (
            {"static": {"statistics": "running"}},
            "search_of.static.statistics: 'running' is not allowed with fast: true; it keeps none",
        ),
        ({"static": {"lr": -1}}, "search_of.static.lr: -1 is not allowed; input should be greater than or equal to 0"),
        ({"static": {"rate": 1}}, "search_of.static.rate: unknown key; allowed: protocol, channels, "),
    ],
)
def test_settings_of_single_methods_are_checked(raw, changes, line):
    put(raw, f"{NAS}.search_of", changes)
    assert any(problem.startswith(f"{NAS}.{line}") for problem in problems(raw))


def test_a_method_is_checked_by_its_own_settings(raw):
    put(raw, f"{STATIC}.unrolled", {})
    put(raw, f"{NAS}.search.precision", "bfloat16")
    put(raw, f"{NAS}.search_of", {"static": {"precision": "float32"}})
    plan = load(raw)
    assert plan.resolved("search", "nas_bench_201", "digits", "static", 0).search.precision == "float32"
    assert plan.resolved("search", "nas_bench_201", "digits", "midas", 0).search.precision == "bfloat16"
    put(raw, f"{NAS}.search_of", {"midas": {"precision": "float32"}, "static": {"epochs": 2}})
    where = f"{NAS}.search_of.static.search.precision"
    assert f"{STATIC}.unrolled: not allowed with {where} 'bfloat16'; its finite difference needs float32" in problems(
        raw
    )


DRAWS = "whose draws differ between the two ends of its difference"
STAGES = [
    (
        {"distribution": "node", "dirichlet": {}},
        "dirichlet: not allowed with the softmax over node; it draws those of an edge: edge",
    ),
    ({"flat": {}, "dirichlet": {}}, f"flat: not allowed beside dirichlet, {DRAWS}"),
    ({"unrolled": {}, "dirichlet": {}}, f"unrolled: not allowed beside dirichlet, {DRAWS}"),
    ({"alignment": {}, "dirichlet": {}}, f"alignment: not allowed beside dirichlet, {DRAWS}"),
    (
        {"taken": {}, "dirichlet": {"keep": [3]}},
        "taken: not allowed with dirichlet.keep; the last epoch has been through all stages",
    ),
    (
        {"taken": {}, "dirichlet": {"wait": 1}},
        "taken: not allowed with dirichlet.wait; the last epoch has been through all stages",
    ),
    ({"dirichlet": {"keep": [5]}}, "dirichlet.keep: 5 is not allowed; fewer than the 5 operations of the stage before"),
    ({"dirichlet": {"keep": [3, 3]}}, "dirichlet.keep: 3 is not allowed; fewer than the 3 operations of the stage before"),
    ({"dirichlet": {"keep": [4, 3, 2, 1]}}, "dirichlet.keep: 5 stages are not allowed in the 4 epochs of experiments.1.search"),
    (
        {"dirichlet": {"keep": [3], "wait": 2}},
        "dirichlet.wait: 2 is not allowed; fewer than the 2 epochs of a stage of experiments.1.search",
    ),
    (
        {"warmup_epochs": 2, "dirichlet": {"keep": [3]}},
        "warmup_epochs: 2 is not allowed with dirichlet.keep; fewer than the 2 epochs of its first stage (experiments.1.search)",
    ),
    ({"dirichlet": {"regulariser": "none"}}, "dirichlet.regulariser: 'none' is not allowed; input should be 'l2' or 'kl'"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "line"), STAGES, ids=lambda value: str(value)[:60])
def test_draws_and_stages_that_make_no_sense_are_one_line(raw, keys, line):
    for key, value in keys.items():
        put(raw, f"{STATIC}.{key}", value)
    assert f"{STATIC}.{line}" in problems(raw)


def test_draws_go_with_what_does_not_mind_them(raw):
    for key, value in {"beta": {}, "perturbation": {}, "dirichlet": {"keep": [4, 2], "regulariser": "kl"}}.items():
        put(raw, f"{STATIC}.{key}", value)
    assert load(raw)
    put(raw, f"{STATIC}.dirichlet", {})
    put(raw, f"{STATIC}.taken", {})
    assert load(raw)


def test_a_mistake_of_a_method_in_two_experiments_is_said_once(raw):
    put(raw, f"{STATIC}.flat", {})
    put(raw, f"{STATIC}.gumbel", {})
    line = f"{STATIC}.flat: {ENDS}"
    assert [problem for problem in problems(raw) if problem == line] == [line]
