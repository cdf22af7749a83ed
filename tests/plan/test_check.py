"""What keys mean together: methods, spaces, patches and cells that don't go with one another are refused."""

import pytest
from small_configuration import MISSING, problems, put

from midas.images.datasets import KNOWN
from midas.plan.check import load
from midas.supernet.patches import patch_grid

TOGETHER = [
    ("experiments.0.space", "nas", "experiments.0.space: 'nas' does not exist; allowed: nas_bench_201, darts"),
    (
        "experiments.0.methods",
        ["mida"],
        "experiments.0.methods: method 'mida' does not exist, did you mean midas? allowed: midas, static, no_patch",
    ),
    ("experiments.0.methods", [], "experiments.0.methods: missing; at least one method, or one of ablation"),
    (
        "experiments.1.ablation",
        ["x"],
        "experiments.1.ablation: method 'x' does not exist; allowed: midas, static, no_patch",
    ),
    (
        "experiments.0.dataset",
        "mnist",
        "experiments.0.dataset: data set 'mnist' does not exist; allowed: digits, digit_pairs, cifar10, cifar100, svhn",
    ),
    ("seeds", [0, 1, 0], "seeds: [0, 1, 0] is not allowed; each seed once"),
    (
        "experiments.0.methods",
        ["midas", "static", "midas"],
        "experiments.0.methods: method 'midas' is named twice; each once",
    ),
    (
        "experiments.0.ablation",
        ["midas", "midas"],
        "experiments.0.ablation: method 'midas' is named twice; each once",
    ),
    ("experiments.0.space", "darts", "experiments.1: space darts on digits appears twice; each once"),
    (
        "experiments.0.retrain",
        MISSING,
        "experiments.0.retrain: missing; cells of nas_bench_201 on digits must be trained (no table is named)",
    ),
    (
        "experiments.1.retrain.auxiliary",
        0.4,
        "experiments.1.retrain.auxiliary: 0.4 is not allowed on 16x16 images; the auxiliary head is defined for 32x32, set 0",
    ),
    ("experiments.1.search.cells", 2, "experiments.1.search.cells: 2 is not allowed; darts needs at least 3"),
    ("experiments.1.retrain.cells", 1, "experiments.1.retrain.cells: 1 is not allowed; darts needs at least 3"),
    (
        "methods.static.distribution",
        "pairs",
        "methods.static.distribution: 'pairs' is not allowed in nas_bench_201, which keeps all edges; allowed: edge, node",
    ),
    (
        "methods.midas.distribution",
        "pairs",
        "methods.midas.distribution: 'pairs' is not allowed in nas_bench_201, which keeps all edges; allowed: edge, node",
    ),
    (
        "analysis.method",
        "static",
        "analysis: method 'static' is no attention method of that experiment; allowed: mi",
    ),
    (
        "analysis.compare",
        ["midas", "static"],
        "analysis: method 'static' is no attention method of that experiment; allowed: mi",
    ),
    (
        "analysis.compare",
        ["midas", "x"],
        "analysis: method 'x' is no attention method of that experiment; allowed: mi",
    ),
    (
        "analysis.dataset",
        "cifar10",
        "analysis: darts on cifar10 is no experiment; allowed: nas_bench_201 on digits, darts on digits",
    ),
    (
        "datasets",
        {"svhn": {"kind": "npz", "path": "x"}},
        "datasets.svhn: the name is taken by an embedded or published data set",
    ),
]


@pytest.mark.parametrize(
    ("key", "value", "line"), TOGETHER, ids=[f"{key}={value!r}"[:60] for key, value, _ in TOGETHER]
)
def test_what_does_not_fit_together_ends_in_a_line(raw, key, value, line):
    put(raw, key, value)
    # an experiment that is wrong may be missed elsewhere, too
    found = [text for text in problems(raw) if text.startswith(line) or not key.startswith("experiments")]
    assert [text[: len(line)] for text in found] == [line]


def test_a_warm_up_as_long_as_the_search_is_refused(raw):
    epochs = raw["experiments"][0]["search"]["epochs"]
    raw["experiments"] = raw["experiments"][:1]
    raw |= {"analysis": None}
    raw["methods"]["midas"]["warmup_epochs"] = epochs - 1
    load(raw)
    raw["methods"]["midas"]["warmup_epochs"] = epochs
    fewer = f"fewer than the epochs of experiments.0.search ({epochs})"
    assert problems(raw) == [f"methods.midas.warmup_epochs: {epochs} is not allowed; {fewer}"]


@pytest.mark.parametrize("patch_size", range(1, 20))
@pytest.mark.parametrize("dataset", ["digits", "digit_pairs", "cifar10"])
@pytest.mark.parametrize("space", ["nas_bench_201", "darts"])
def test_patch_sizes_are_allowed_just_where_patches_tile_every_map(raw, data_root, patch_size, dataset, space):
    experiment = next(e for e in raw["experiments"] if e["space"] == space)
    raw["experiments"] = [experiment | {"dataset": dataset}]
    raw |= {"data_root": str(data_root), "analysis": None}
    raw["methods"]["midas"]["patch_size"] = patch_size
    sides = {(h // s, w // s) for h, w in [KNOWN[dataset].image] for s in (1, 2, 4)}
    tiles = all(h % down == w % across == 0 for h, w in sides for down, across in [patch_grid(h, w, patch_size)])
    whole = all(side <= patch_size or side % patch_size == 0 for pair in sides for side in pair)
    if tiles and whole:
        load(raw)
        return
    (line,) = problems(raw)
    assert line.startswith(f"methods.midas.patch_size: {patch_size} does not divide the ")
    assert f"pixels of a map of {space} on {dataset}; allowed: 1, 2, 4, 8" in line
    for allowed in line.partition("allowed: ")[2].removesuffix(" or null").split(", "):
        raw["methods"]["midas"]["patch_size"] = int(allowed)
        load(raw)


def test_no_patches_are_always_allowed(raw):
    raw["methods"]["midas"]["patch_size"] = None
    assert load(raw).config.methods["midas"].patch_size is None


def test_all_errors_at_once(raw):
    raw |= {"sizes": 1, "seeds": [0, 0], "data_root": "/no/such/folder"}
    raw["experiments"][0]["search"]["lr"] = "fast"
    raw["experiments"][1]["space"] = "nats"
    raw["methods"]["midas"]["patch_size"] = 3
    found = problems(raw)
    for key in (
        "sizes",
        "seeds",
        "data_root",
        "experiments.0.search.lr",
        "experiments.1.space",
        "methods.midas.patch_size",
    ):
        assert sum(line.startswith(f"{key}: ") for line in found) == 1, key


@pytest.mark.parametrize("raw", [None, [], "text", 3, {}, {"seeds": None}, {1: 2}])
def test_what_is_no_configuration_at_all_is_refused(raw):
    assert problems(raw)


@pytest.mark.parametrize("key", ["results_dir", "figures_dir"])
def test_a_folder_whose_name_is_a_wildcard_is_refused(raw, key):
    assert problems(raw | {key: "a{b}"}) == [
        f"{key}: 'a{{b}}' is not allowed; no braces, which Snakemake takes for wildcards"
    ]


def test_a_cut_out_that_leaves_nothing_and_nesterov_without_momentum(raw):
    raw["experiments"] = raw["experiments"][:1]
    raw["analysis"] = None
    raw["experiments"][0]["retrain"] |= {"cutout": 31, "nesterov": True}
    load(raw)
    raw["experiments"][0]["retrain"] |= {"cutout": 32, "momentum": 0}
    whole = "on 16x16 images, none of which would show anything; below 32"
    assert problems(raw) == [
        f"experiments.0.retrain.cutout: 32 is not allowed {whole}",
        "experiments.0.retrain.nesterov: true is not allowed with momentum 0",
    ]


@pytest.mark.parametrize("key", ["results_dir", "figures_dir"])
def test_a_folder_of_results_that_is_a_file(raw, tmp_path, key):
    (tmp_path / "file").touch()
    assert problems(raw | {key: str(tmp_path / "file")}) == [
        f"{key}: '{tmp_path}/file' is not allowed; it is a file, not a folder"
    ]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"a": ["0", "1"], "b": ["2", "ten"]}, "class 'ten' does not exist; allowed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ({"a": ["0", "1"], "b": ["1", "2"]}, "class '1' is named twice; each once"),
        ({"a": ["0", "1"]}, "at least two groups of at least two classes are needed"),
        ({"a": ["0", "1"], "b": ["2"]}, "at least two groups of at least two classes are needed"),
    ],
)
def test_wrong_groups_end_in_a_line(raw, groups, expected):
    raw["analysis"]["groups"] = groups
    assert problems(raw) == [f"analysis.groups: {expected}"]


def test_a_random_cell_is_no_search_to_look_into(raw):
    raw["methods"]["random"] = {"weights": "random"}
    raw["experiments"][1]["methods"].append("random")
    raw["analysis"]["method"] = "random"
    assert problems(raw) == [
        "analysis: method 'random' is no attention method of that experiment; allowed: midas, no_patch"
    ]
