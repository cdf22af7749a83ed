import copy
import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import midas.config.settings
from midas.analysis.statistics.dip import FEWEST_IMAGES
from midas.config import keys as config
from midas.config.keys import Analysis, Config, ConfigError, Experiment
from midas.config.reading import read_config
from midas.config.settings import Cost, Method, Retrain, Search, Strict, Transfer, UserDataset
from midas.images.datasets import FILES, KNOWN
from midas.images.reading import load as load_images
from midas.plan.check import load
from midas.plan.check_images import FEWEST_TESTED, training_images
from midas.plan.runs import DecodeRun, LookupRun, RetrainRun, SearchRun
from midas.running.step import main
from midas.search import search
from midas.spaces.benchmark import CELLS, COLUMNS, numbers
from midas.supernet.patches import patch_grid

ROOT = Path(__file__).parents[1]
# NAS-Bench-201 and DARTS on digits (16x16), by attention and statically: short, and independent of what the demo becomes
RAW = yaml.safe_load("""
size: test
note: for tests
seeds: [0, 1]
device: cpu
methods:
  midas: {weights: attention, patch_size: 4}
  static: {weights: static}
  no_patch: {weights: attention, patch_size: null}
experiments:
  - space: nas_bench_201
    dataset: digits
    methods: [midas, static]
    search: {channels: 8, cells: 1, epochs: 8}
    retrain: {channels: 8, cells: 1, epochs: 10}
  - space: darts
    dataset: digits
    methods: [midas, static]
    ablation: [no_patch]
    search: {channels: 4, cells: 3, epochs: 4}
    retrain: {channels: 8, cells: 3, epochs: 8, auxiliary: 0}
analysis: {space: darts, dataset: digits, method: midas, compare: [no_patch, midas]}
""")


TRANSFER = {"dataset": "digit_photos", "methods": ["midas"], "image_size": 64, "auxiliary": 0}
COST = {"baseline": "static", "methods": ["midas"], "resolutions": [16, 32], "patch_sizes": [2, 8]}


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch):
    monkeypatch.delenv("MIDAS_DATA", raising=False)


@pytest.fixture
def raw(tmp_path):
    return copy.deepcopy(RAW) | {"results_dir": str(tmp_path / "results")}


MISSING = object()


def put(raw, key, value):
    """Set, or take away, a key such as "experiments.0.search.lr"."""
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    for part in path:
        raw = raw[part]
    if value is MISSING:
        del raw[last]
    else:
        raw[last] = value


def problems(raw):
    """Lines of the error that a configuration ends in."""
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


# --- files that come with the project


def size_files():
    return [
        path
        for path in sorted((ROOT / "config").glob("*.yaml"))
        if "experiments" in (yaml.safe_load(path.read_text()) or {})
    ]


@pytest.fixture
def data_root(tmp_path):
    """A folder that looks as if the published data sets lay in it; planning doesn't open them."""
    for files in FILES.values():
        for file in files:
            (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / file).touch()
    return tmp_path / "data"


@pytest.mark.parametrize("path", size_files(), ids=lambda path: path.name)
def test_the_configurations_of_the_project_load(path, tmp_path, data_root, request):
    raw = yaml.safe_load(path.read_text()) | {"results_dir": str(tmp_path / "results")}
    if not {experiment["dataset"] for experiment in raw["experiments"]} <= {"digits", "digit_pairs"}:
        benchmark = request.getfixturevalue("shared_data") / "nas_bench_201"
        raw["data_root"] = str(data_root)
        raw["nas_bench_201_table"] = str(benchmark / "nas_bench_201.csv.gz")
        raw["cifar10_split"] = str(benchmark / "splits/cifar-split.json.gz")
    plan = load(raw)
    assert list(plan.cells())
    assert plan.config.paper_protocol == (path.name == "paper.yaml")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("results/published/*/config.yaml")), ids=lambda path: path.parent.name
)
def test_the_published_configurations_load_without_data_and_table(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MIDAS_DATA", "nowhere")
    assert load(read_config(path, [])).config.note


def test_the_demo_needs_no_data(tmp_path):
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"results_dir": str(tmp_path)}
    assert all(not run["dataset"]["download"] for run in runs(load(raw), "search"))


def test_cifar10_on_two_cores_says_what_it_needs(data_root):
    raw = yaml.safe_load((ROOT / "config/cifar10_cpu.yaml").read_text()) | {"results_dir": "nowhere"}
    assert problems(raw | {"data_root": str(data_root)}) == [
        "experiments.0.retrain: missing; cells of nas_bench_201 on cifar10 must be trained (no table is named)"
    ]


# --- wrong keys

WRONG = [
    ("sizes", 3, f"sizes: unknown key; allowed: {', '.join(Config.model_fields)}"),
    ("methods.midas.patchsize", 4, f"methods.midas.patchsize: unknown key; allowed: {', '.join(Method.model_fields)}"),
    (
        "experiments.1.dataste",
        "x",
        f"experiments.1.dataste: unknown key; allowed: {', '.join(Experiment.model_fields)}",
    ),
    (
        "experiments.1.search.chan",
        4,
        f"experiments.1.search.chan: unknown key; allowed: {', '.join(Search.model_fields)}",
    ),
    ("experiments.0.retrain.x", 4, f"experiments.0.retrain.x: unknown key; allowed: {', '.join(Retrain.model_fields)}"),
    ("analysis.figure", 1, f"analysis.figure: unknown key; allowed: {', '.join(Analysis.model_fields)}"),
    (
        "datasets",
        {"own": {"kind": "npz", "path": "x", "root": "y"}},
        f"datasets.own.root: unknown key; allowed: {', '.join(UserDataset.model_fields)}",
    ),
    ("device", "gpu", "device: 'gpu' is not allowed; input should be 'auto', 'cpu' or 'cuda'"),
    ("seeds", 3, "seeds: 3 is not allowed; input should be a valid list"),
    ("seeds", [], "seeds: [] is not allowed; list should have at least 1 item after validation, not 0"),
    ("seeds", [0, -1], "seeds.1: -1 is not allowed; input should be greater than or equal to 0"),
    ("seeds", ["a"], "seeds.0: 'a' is not allowed; input should be a valid integer"),
    ("seeds", [0.5], "seeds.0: 0.5 is not allowed; input should be a valid integer"),
    ("note", MISSING, "note: missing; field required"),
    ("threads", 0, "threads: 0 is not allowed; input should be greater than or equal to 1"),
    (
        "methods.midas.weights",
        "gumbel",
        "methods.midas.weights: 'gumbel' is not allowed; input should be 'static', 'attention' or 'random'",
    ),
    (
        "methods.midas.patch_size",
        "four",
        "methods.midas.patch_size: 'four' is not allowed; input should be a valid integer",
    ),
    ("methods.midas.scale", 0, "methods.midas.scale: 0 is not allowed; input should be greater than 0"),
    (
        "experiments.0.search.batch_size",
        1,
        "experiments.0.search.batch_size: 1 is not allowed; input should be greater than",
    ),
    (
        "experiments.0.search.lr",
        "fast",
        "experiments.0.search.lr: 'fast' is not allowed; input should be a valid number",
    ),
    (
        "experiments.0.search.lr",
        float("inf"),
        "experiments.0.search.lr: inf is not allowed; input should be a finite number",
    ),
    ("experiments.0.search.lr", float("nan"), "experiments.0.search.lr: nan is not allowed; input should be"),
    ("methods.midas.scale", float("inf"), "methods.midas.scale: inf is not allowed; input should be a finite number"),
    (
        "experiments.0.search.arch_betas",
        [0.5, 1.5],
        "experiments.0.search.arch_betas.1: 1.5 is not allowed; input should be",
    ),
    ("experiments.0.search.arch_betas", [0.5], "experiments.0.search.arch_betas.1: missing; field required"),
    ("experiments.0.search.epochs", MISSING, "experiments.0.search.epochs: missing; field required"),
    (
        "experiments.0.retrain.drop_path",
        1,
        "experiments.0.retrain.drop_path: 1 is not allowed; input should be less than 1",
    ),
    (
        "experiments.0.retrain.nesterov",
        "perhaps",
        "experiments.0.retrain.nesterov: 'perhaps' is not allowed; input should be a",
    ),
    ("experiments", [], "experiments: [] is not allowed; list should have at least 1 item"),
    ("methods", [], "methods: [] is not allowed; input should be a valid dictionary"),
    ("data_root", 3, "data_root: 3 is not allowed; input should be a valid string"),
]


@pytest.mark.parametrize(("key", "value", "line"), WRONG, ids=[f"{key}={value!r}"[:50] for key, value, _ in WRONG])
def test_a_wrong_key_ends_in_one_line(raw, key, value, line):
    put(raw, key, value)
    found = problems(raw)
    assert [text[: len(line)] for text in found] == [line]


NAMES = ["..", "../x", "a/b", "a;b", "a b", "a'b", 'a"b', "", "A", "a\n", "a.b", "ä", "$(x)", "-"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["size", "experiments.0.space", "experiments.0.dataset", "analysis.method"])
def test_names_that_no_folder_should_have_are_refused(raw, key, name):
    put(raw, key, name)
    assert (
        f"{key}: {name!r} is not allowed; must be letters a-z, digits and underscores, since it names a folder"
        in problems(raw)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["methods", "datasets"])
def test_names_that_are_keys_are_checked_as_well(raw, key, name):
    raw.setdefault(key, {})[name] = {"weights": "static"} if key == "methods" else {"kind": "npz", "path": "x"}
    assert any(
        line.startswith(f"{key}.") and f": {name!r} is not allowed; must be letters a-z, digits and underscores" in line
        for line in problems(raw)
    )


def test_names_in_lists_are_checked(raw):
    raw["experiments"][0]["methods"] = ["midas", "x; rm"]
    assert any(
        line.startswith("experiments.0.methods.1: 'x; rm' is not allowed; must be letters") for line in problems(raw)
    )


# --- what keys mean together

TOGETHER = [
    ("experiments.0.space", "nas", "experiments.0.space: 'nas' does not exist; allowed: nas_bench_201, darts"),
    (
        "experiments.0.methods",
        ["mida"],
        "experiments.0.methods: method 'mida' does not exist; allowed: midas, static, no_patch",
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


def test_images_that_cannot_be_halved_twice(raw, tmp_path):
    write_npz(tmp_path / "own.npz", side=14)
    use_own(raw, tmp_path / "own.npz")
    assert problems(raw)[0] == "experiments.0.dataset: images of 14x14 can't be halved to 1/4"


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


def test_a_key_that_is_a_date(raw):
    """YAML reads 2024-01-01 as a date."""
    assert problems(raw | yaml.safe_load("2024-01-01: x"))


# --- strings, as snakemake's --config gives them


def test_strings_of_numbers_are_taken_as_numbers(raw):
    raw |= {"seeds": ["3", "1"], "threads": "2"}
    raw["experiments"][0]["search"] |= {"epochs": "7", "lr": "0.05", "channels_last": "false"}
    settings = load(raw).config
    assert settings.seeds == [3, 1]
    assert settings.threads == 2
    assert settings.experiments[0].search.epochs == 7
    assert settings.experiments[0].search.lr == 0.05
    assert settings.experiments[0].search.channels_last is False


# --- files that a configuration names


def write_npz(path, side=16, **changes):
    x, y = np.zeros((6, side, side, 3), np.uint8), np.arange(6) % 3
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def small_batches(raw):
    for step in ("search", "retrain"):
        raw["experiments"][0][step]["batch_size"] = 2


def use_own(raw, path, **keys):
    raw["datasets"] = {"own": {"kind": "npz", "path": str(path), **keys}}
    raw["experiments"] = [raw["experiments"][0] | {"dataset": "own"}]
    raw["analysis"] = None


def test_a_data_set_of_the_user(raw, tmp_path):
    write_npz(tmp_path / "own.npz")
    use_own(raw, tmp_path / "own.npz", padding=1)
    small_batches(raw)
    dataset = load(raw).dataset("own")
    assert (dataset.classes, dataset.image, dataset.padding, dataset.flip) == (3, (16, 16), 1, True)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "data set 'own': {path} does not exist"),
        (lambda path: path.write_bytes(b"PK\x03\x04 damaged"), "{path}: not a usable npz data set: "),
        (
            lambda path: write_npz(path, y_test=None),
            "{path}: not a usable npz data set: lacks y_test; it needs x_train, ",
        ),
        (
            lambda path: write_npz(path, x_train=np.zeros((6, 16, 16), np.uint8)),
            "{path}: not a usable npz data set: x_train is",
        ),
    ],
)
def test_a_data_set_that_cannot_be_used(raw, tmp_path, write, message):
    path = tmp_path / "own.npz"
    write(path)
    use_own(raw, path)
    (line,) = problems(raw)
    assert line.startswith("experiments.0.dataset: " + message.format(path=path))


def test_an_image_folder_without_a_size(raw, tmp_path):
    use_own(raw, tmp_path, kind="folder")
    assert problems(raw) == [f"experiments.0.dataset: {tmp_path}: an image folder needs the key image_size"]


def on_cifar10(raw):
    raw["experiments"] = [raw["experiments"][0] | {"dataset": "cifar10"}]
    raw["analysis"] = None


NEEDED = "cifar-10-batches-py/data_batch_1, which cifar10 needs"


def test_a_data_root_that_is_no_folder(raw):
    on_cifar10(raw)
    assert problems(raw | {"data_root": "/no/such"}) == [
        "data_root: '/no/such' is not an existing folder",
        f"experiments.0.dataset: data folder '/no/such' has no {NEEDED}",
    ]


def test_a_data_root_with_a_name_too_long(raw):
    assert problems(raw | {"data_root": "a" * 5000})[0].endswith("is not an existing folder")


def test_a_data_root_without_the_data(raw, tmp_path):
    on_cifar10(raw)
    assert problems(raw | {"data_root": str(tmp_path)}) == [
        f"experiments.0.dataset: data folder '{tmp_path}' has no {NEEDED}"
    ]


def test_the_data_folder_of_the_environment(raw, tmp_path, data_root, monkeypatch):
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(tmp_path))
    assert problems(raw) == [f"experiments.0.dataset: data folder '{tmp_path}' has no {NEEDED}"]
    assert load(raw | {"data_root": str(data_root)}).dataset("cifar10").path == str(data_root)


def test_the_data_folder_of_the_environment_is_used(raw, data_root, monkeypatch):
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(data_root))
    dataset = load(raw).dataset("cifar10")
    assert (dataset.path, dataset.download) == (str(data_root), False)


def test_without_a_data_folder_data_are_downloaded(raw):
    on_cifar10(raw)
    dataset = load(raw).dataset("cifar10")
    assert (dataset.path, dataset.download) == ("data", True)


def test_figures_are_redrawn_where_the_data_are_not(raw, tmp_path, monkeypatch):
    """With all results at hand nothing is asked of the data."""
    on_cifar10(raw)
    monkeypatch.setenv("MIDAS_DATA", str(tmp_path))
    for method in ("midas", "static"):
        for seed in (0, 1):
            for step in ("search", "retrain"):
                assert problems(raw)
                folder = Path(raw["results_dir"]) / f"test/nas_bench_201/cifar10/{method}/seed{seed}/{step}"
                folder.mkdir(parents=True)
                (folder / "metrics.json").touch()
    load(raw)


def write_table(path, columns=COLUMNS, opener=open):
    cell, number = next(iter(numbers().items()))
    with opener(path, "wt", newline="") as file:
        rows = csv.DictWriter(file, columns)
        rows.writeheader()
        rows.writerow({name: {"arch": cell, "index": number}.get(name, 50) for name in columns})


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_with_a_table_nothing_needs_to_be_retrained(raw, tmp_path, opener):
    write_table(tmp_path / "table", [*COLUMNS, "another"], opener)
    del raw["experiments"][0]["retrain"]
    plan = load(raw | {"nas_bench_201_table": str(tmp_path / "table"), "nas_bench_201_cells": 1})
    assert plan.evaluation("nas_bench_201") == "lookup"
    assert plan.evaluation("darts") == "retrain"
    assert json.loads(plan.run("lookup", "nas_bench_201", "digits", "midas", 1))["table"] == str(tmp_path / "table")


def test_a_table_without_a_column(raw, tmp_path):
    write_table(tmp_path / "t.csv", [name for name in COLUMNS if name != "c100_test_acc_200"])
    (line,) = problems(raw | {"nas_bench_201_table": str(tmp_path / "t.csv")})
    missing = f"nas_bench_201_table: {tmp_path}/t.csv: column c100_test_acc_200 is missing; needed: index, arch, "
    assert line.startswith(missing)


def test_a_table_that_is_missing(raw):
    (line,) = problems(raw | {"nas_bench_201_table": "/no/t.csv"})
    assert line.startswith("nas_bench_201_table: /no/t.csv: not a readable table: ")


@pytest.mark.parametrize("key", ["results_dir", "figures_dir"])
def test_a_folder_whose_name_is_a_wildcard_is_refused(raw, key):
    assert problems(raw | {key: "a{b}"}) == [
        f"{key}: 'a{{b}}' is not allowed; no braces, which Snakemake takes for wildcards"
    ]


def test_a_table_that_lost_cells_is_refused_after_the_look_ups_too(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    raw |= {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1}
    for cell in load(raw).cells("nas_bench_201", evaluated=True):
        folder = load(raw).cell_folder(cell) / "lookup"
        folder.mkdir(parents=True)
        (folder / "metrics.json").touch()
    assert load(raw)
    assert problems(raw | {"nas_bench_201_cells": 2})
    (tmp_path / "t.csv").unlink()  # what is published is redrawn without it
    assert load(raw)


def test_a_table_must_have_all_cells_unless_a_key_says_how_many(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    raw["nas_bench_201_table"] = table = str(tmp_path / "t.csv")
    fewer = "15,625, each once; the key nas_bench_201_cells says how many a smaller table has"
    assert problems(raw) == [f"nas_bench_201_table: {table}: 1 cells are not allowed; {fewer}"]
    assert problems(raw | {"nas_bench_201_cells": 2}) == [
        f"nas_bench_201_table: {table}: 1 cells are not allowed; 2, each once"
    ]
    assert load(raw | {"nas_bench_201_cells": 1}).config.nas_bench_201_cells == 1
    assert problems(raw | {"nas_bench_201_cells": CELLS + 1})[0].startswith("nas_bench_201_cells: 15626 is not allowed")


def test_a_wrong_line_of_a_table_ends_in_a_line(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("50", "nan", 1))
    (line,) = problems(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})
    wrong = "c10_valid_acc_200: nan is not allowed; percent, 0 to 100"
    assert line == f"nas_bench_201_table: {tmp_path}/t.csv, line 2: {wrong}"


def flip_bits(content):
    return content[:30] + bytes(byte ^ 0xFF for byte in content[30:60]) + content[60:]


@pytest.mark.parametrize("damage", [lambda content: content[:40], flip_bits], ids=["cut short", "flipped"])
def test_a_damaged_table(raw, tmp_path, damage):
    path = tmp_path / "t.csv.gz"
    write_table(path, opener=gzip.open)
    path.write_bytes(damage(path.read_bytes()))
    (line,) = problems(raw | {"nas_bench_201_table": str(path)})
    assert line.startswith(f"nas_bench_201_table: {path}: not a readable table: ")


SPLITS = {
    "damaged gzip": gzip.compress(b'{"train": [1], "valid": [2]}')[:-12],
    "no JSON": b"train: [1]",
    "no valid": b'{"train": [1]}',
    "no lists": b'{"train": 1, "valid": 2}',
    "no numbers": b'{"train": ["x"], "valid": [2]}',
    "no mapping": b"[1, 2]",
    "no text": b"\xff\xfe",
}


SPLITS |= {
    "an image twice": b'{"train": [1, 2], "valid": [2]}',
    "an image below 0": b'{"train": [1, -2], "valid": [2]}',
    "another type": b'{"train": ["float", ["1"]], "valid": ["int", ["2"]]}',
    "no number in the authors' form": b'{"train": ["int", ["1.5"]], "valid": ["int", ["2"]]}',
    "an empty list in the authors' form": b'{"train": ["int", []], "valid": ["int", ["2"]]}',
    "UTF-16 without a mark": '{"train": [1], "valid": [2]}'.encode("utf-16-le"),
    "Zstandard": b"(\xb5/\xfd" + bytes(9),
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_damaged_split_file(raw, tmp_path, split):
    (tmp_path / "split").write_bytes(SPLITS[split])
    (line,) = problems(raw | {"cifar10_split": str(tmp_path / "split")})
    text = f"cifar10_split: {tmp_path}/split: not a JSON file with the index lists train and valid: "
    assert line.startswith(text)


def test_the_split_is_for_cifar10_alone(raw, tmp_path, data_root):
    (tmp_path / "split").write_text(json.dumps({"train": list(range(64)), "valid": list(range(100, 164))}))
    raw["experiments"][0]["dataset"] = "cifar10"
    plan = load(raw | {"cifar10_split": str(tmp_path / "split"), "data_root": str(data_root)})
    assert plan.dataset("cifar10").split == str(tmp_path / "split")
    assert plan.dataset("digits").split is None
    assert plan.dataset("cifar100").split is None


# --- what would end in a job, said before any


def test_strings_and_whole_floats_are_numbers_and_truth_is_not(raw):
    """Python takes true for 1; numbers and lists of them are refused alike, keys that are true or false take it."""
    raw["experiments"][0]["search"] |= {"epochs": 3.0, "channels": "8", "channels_last": True}
    raw["experiments"][0]["search"]["fast"] = 0
    settings = load(raw).config.experiments[0].search
    assert (settings.epochs, settings.channels, settings.channels_last, settings.fast) == (3, 8, True, False)
    for key, value in {
        "threads": True,
        "seeds": [True],
        "methods.midas.patch_size": True,
        "methods.midas.scale": True,
        "experiments.0.search.lr": False,
        "experiments.0.search.arch_betas": [True, 0.5],
        "experiments.1.cost": COST | {"resolutions": [True]},
        "datasets": {"own": {"kind": "npz", "path": "x", "padding": True}},
    }.items():
        changed = copy.deepcopy(raw)
        put(changed, key, value)
        (line,) = [line for line in problems(changed) if "true and false" in line]
        assert re.fullmatch(rf"{re.escape(key)}\S*: .+ is not allowed; true and false are no numbers", line)


@pytest.mark.parametrize("betas", [[1.0, 0.999], [0.5, 1]])
def test_a_beta_of_1_is_refused_since_adam_divides_by_what_is_left(raw, betas):
    raw["experiments"][0]["search"]["arch_betas"] = betas
    (line,) = problems(raw)
    assert re.match(r"experiments\.0\.search\.arch_betas\.[01]: 1.* is not allowed; input should be less than 1", line)


def test_known_numbers_of_images_are_those_of_the_data(digits_and_pairs):
    for dataset, images in digits_and_pairs:
        assert training_images(dataset) == len(images)


@pytest.fixture
def digits_and_pairs():
    return [(KNOWN[name], load_images(KNOWN[name], torch.device("cpu"))[0]) for name in ("digits", "digit_pairs")]


@pytest.mark.parametrize(
    ("dataset", "search", "retrain"),
    [("digits", 718, 1437), ("digit_pairs", 500, 1000), ("cifar10", 25_000, 50_000), ("svhn", 36_628, 73_257)],
)
def test_batches_larger_than_the_data_are_refused(raw, data_root, dataset, search, retrain):
    raw |= {"experiments": raw["experiments"][:1], "analysis": None, "data_root": str(data_root)}
    raw["experiments"][0]["dataset"] = dataset
    raw["experiments"][0]["search"]["batch_size"] = search
    raw["experiments"][0]["retrain"]["batch_size"] = retrain
    load(raw)
    raw["experiments"][0]["search"]["batch_size"] += 1
    raw["experiments"][0]["retrain"]["batch_size"] += 1
    first, second = problems(raw)
    assert first.startswith(
        f"experiments.0.search.batch_size: {search + 1} is not allowed; {dataset} has {search} training"
    )
    images = f"{dataset} has {retrain} training images"
    assert second == f"experiments.0.retrain.batch_size: {retrain + 1} is not allowed; {images}"


def test_batches_of_the_users_images_and_of_a_split_are_counted_too(raw, tmp_path, data_root):
    write_npz(tmp_path / "own.npz")
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["experiments"][0]["search"]["batch_size"] = 4
    halves = "own has 3 training images for the weights and 3 for the architecture"
    assert problems(raw) == [f"experiments.0.search.batch_size: 4 is not allowed; {halves}"]
    on_cifar10(raw)
    (tmp_path / "split").write_text('{"train": [0, 1, 2, 3], "valid": [5, 6, 7]}')
    halves = "cifar10 has 4 training images for the weights and 3 for the architecture"
    raw |= {"data_root": str(data_root), "cifar10_split": str(tmp_path / "split")}
    assert problems(raw) == [f"experiments.0.search.batch_size: 4 is not allowed; {halves}"]


def test_a_split_of_images_that_do_not_exist(raw, tmp_path, data_root):
    path = tmp_path / "split"
    lists = {"train": list(range(64)), "valid": list(range(49_900, 50_000))}
    on_cifar10(raw)
    raw |= {"data_root": str(data_root), "cifar10_split": str(path)}
    path.write_text(json.dumps(lists))
    load(raw)
    path.write_text(json.dumps(lists | {"train": [*lists["train"], 50_000]}))
    assert problems(raw) == [f"cifar10_split: {path}: image 50000 does not exist; CIFAR-10 has 0 to 49999"]


def test_random_cells_need_images_that_can_be_halved_where_they_are_trained(raw, tmp_path):
    write_npz(tmp_path / "own.npz", side=14)
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["methods"] = {"random": {"weights": "random"}}
    raw["experiments"][0]["methods"] = ["random"]
    assert problems(raw) == ["experiments.0.dataset: images of 14x14 can't be halved to 1/4"]
    write_table(tmp_path / "t.csv")  # looked up, they are not
    load(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})


@pytest.mark.parametrize(
    ("images", "side", "batch", "decode", "wrong"),
    [
        (16, 4, 4, 1, True),
        (16, 4, 4, 2, False),
        (16, 8, 4, 1, False),  # its smallest maps are 2x2
        (6, 4, 2, None, True),  # three validation images make batches of two and one
        (8, 4, 2, None, False),
        (6, 4, 2, 3, False),
    ],
)
def test_one_image_whose_map_is_one_pixel_cannot_be_normalised(raw, tmp_path, images, side, batch, decode, wrong):
    x, y = np.zeros((images, side, side, 3), np.uint8), np.arange(images) % 2
    write_npz(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    use_own(raw, tmp_path / "own.npz")
    small_batches(raw)
    raw["experiments"][0]["search"]["batch_size"] = batch
    raw["experiments"][0]["retrain"]["cutout"] = 0
    raw["methods"]["midas"] |= {"decode_batch": decode, "patch_size": None}
    raw["experiments"][0]["methods"] = ["midas"]
    if not wrong:
        load(raw)
        return
    (line,) = problems(raw)
    assert line.startswith(f"methods.midas.decode_batch: {decode or 'null'} is not allowed; it cuts the {images // 2}")


def test_an_analysis_needs_two_classes_and_images_to_test(raw, tmp_path):
    x = np.zeros((10, 16, 16, 3), np.uint8)
    for classes, count, words in ((1, 10, "it has one class, and classes are compared"), (2, 6, "it has 3 images")):
        y = np.arange(count) % classes
        write_npz(tmp_path / "own.npz", x_train=x[:count], y_train=y, x_test=x[:count], y_test=y)
        use_own(raw, tmp_path / "own.npz", padding=count)
        small_batches(raw)
        load(raw)
        raw["analysis"] = {"space": "nas_bench_201", "dataset": "own", "method": "midas", "compare": ["midas"]}
        (line,) = problems(raw)
        assert line.startswith(f"analysis.dataset: 'own' is not allowed; {words}")
    assert FEWEST_TESTED == FEWEST_IMAGES


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


# --- paths as a shell reads them


def test_the_users_folder_and_variables_in_paths(raw, tmp_path, data_root, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OF_MINE", "data")
    on_cifar10(raw)
    (tmp_path / "split").write_text(json.dumps({"train": list(range(64)), "valid": list(range(100, 164))}))
    write_table(tmp_path / "t.csv")
    (tmp_path / "claims.yaml").write_bytes((ROOT / "config/claims.yaml").read_bytes())
    raw |= {"nas_bench_201_table": "$HOME/t.csv", "nas_bench_201_cells": 1, "cifar10_split": "${HOME}/split"}
    raw |= {"data_root": "~/$OF_MINE", "claims": "~/claims.yaml", "results_dir": "~/a$", "figures_dir": "$OF_MINE/f"}
    raw["datasets"] = {"own": {"kind": "npz", "path": "~/own.npz"}}
    config = load(raw).config
    assert (config.data_root, config.nas_bench_201_table) == (str(data_root), f"{tmp_path}/t.csv")
    assert (config.cifar10_split, config.claims) == (f"{tmp_path}/split", f"{tmp_path}/claims.yaml")
    assert (config.results_dir, config.figures_dir) == (f"{tmp_path}/a$", "data/f")
    assert config.datasets["own"].path == f"{tmp_path}/own.npz"
    monkeypatch.setenv("MIDAS_DATA", "~/${OF_MINE}")
    assert load(raw | {"data_root": None}).dataset("cifar10").path == str(data_root)


@pytest.mark.parametrize(
    "key", ["data_root", "nas_bench_201_table", "cifar10_split", "claims", "results_dir", "figures_dir"]
)
def test_a_variable_that_is_not_set_is_refused(raw, key, monkeypatch):
    monkeypatch.delenv("OF_MINE", raising=False)
    assert problems(raw | {key: "$OF_MINE/x"}) == [
        f"{key}: '$OF_MINE/x' is not allowed; the environment variable OF_MINE is not set"
    ]
    (line,) = problems(raw | {key: "~nobody_of_this_name/x"})
    assert line.startswith(f"{key}: '~nobody_of_this_name/x' is not allowed; there is no user nobody_of_this_name")


def test_a_variable_that_is_not_set_in_the_folder_of_the_environment(raw, monkeypatch):
    on_cifar10(raw)
    monkeypatch.delenv("OF_MINE", raising=False)
    monkeypatch.setenv("MIDAS_DATA", "$OF_MINE")
    unset = "MIDAS_DATA: '$OF_MINE' is not allowed; the environment variable OF_MINE is not set"
    assert problems(raw) == [f"experiments.0.dataset: {unset}"]
    monkeypatch.setenv("MIDAS_DATA", "")  # as if it weren't there
    assert load(raw).dataset("cifar10").download


# --- a key that is there twice


def test_a_key_that_is_there_twice_is_refused_with_its_lines(tmp_path):
    path = tmp_path / "c.yaml"
    for text, words in {
        "a: 1\nb: 2\na: 3\n": "key 'a' is there twice, in lines 1 and 3; each once",
        "x:\n  - {lr: 1, 'lr': 2}\n": "key 'lr' is there twice, in lines 2 and 2; each once",
        "x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2\n": "key 'b' is there twice, in lines 4 and 5; each once",
        '{\n\t"a": {"b": 1, "b": 2}}': "key 'b' is there twice; each once",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(f"{path}: {words}")):
            read_config(path, [])
    for text in ("x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: {a: 3, 1: 4, '1': 5}\n", '{\n\t"x": {"a": 1}}'):
        path.write_text(text)
        assert read_config(path, ["b={a: 1}"]) == yaml.safe_load(text.replace("\t", "")) | {"b": {"a": 1}}
    for changes in (["b=1", "c=2", "b=3"], ["b={a: 1, a: 2}"]):
        with pytest.raises(ValueError, match=r"each key once|is there twice"):
            read_config(path, changes)


# --- the plan


def runs(plan, step):
    cells = plan.cells(evaluated=step == "retrain")
    return [json.loads(plan.run(step, c.experiment.space, c.experiment.dataset, c.method, c.seed)) for c in cells]


def test_every_search_is_planned_once(raw):
    plan = load(raw)
    found = [(c.experiment.space, c.method, c.seed) for c in plan.cells()]
    methods = {"nas_bench_201": ["midas", "static"], "darts": ["midas", "static", "no_patch"]}
    assert found == [(space, method, seed) for space in methods for method in methods[space] for seed in (0, 1)]
    assert [c.method for c in plan.cells("darts", evaluated=True)] == ["midas", "midas", "static", "static"]
    folders = {plan.cell_folder(c) for c in plan.cells()}
    assert len(folders) == len(found)
    assert plan.root / "darts/digits/no_patch/seed1" in folders


def test_a_run_is_complete_and_reads_back(raw):
    plan = load(raw)
    for cell, text in zip(plan.cells(), runs(plan, "search"), strict=True):
        run = SearchRun.model_validate(text)
        assert run.method == plan.config.methods[cell.method]
        assert run.search == cell.experiment.search
        assert (run.space, run.seed, run.dataset) == (cell.experiment.space, cell.seed, KNOWN["digits"])
    folder = plan.folder("darts", "digits", "midas", 1)
    names = ("darts", "digits", "midas", "1")
    assert DecodeRun.model_validate_json(plan.run("decode", *names)).dump == str(folder / "search/arch.npz")
    retrain = RetrainRun.model_validate_json(plan.run("retrain", *names))
    assert retrain.genotype == str(folder / "decode/genotype.json")
    assert (retrain.seed, retrain.retrain) == (1, plan.config.experiments[1].retrain)


def test_a_search_run_has_nothing_that_does_not_change_its_numbers(raw):
    """Other experiments, paths and figures leave a run as it is, hence don't repeat it."""
    before = runs(load(raw), "search")[:4]
    raw |= {"note": "another", "figures_dir": "elsewhere", "analysis": None}
    raw["experiments"] = raw["experiments"][:1]
    assert runs(load(raw), "search") == before


def test_tables_and_figures_follow_from_the_experiments(raw):
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([1, 2, 5], [1, 2, 3, 4, 5, 6, 12])
    raw |= {"analysis": None, "experiments": raw["experiments"][1:]}
    del raw["experiments"][0]["ablation"]
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([2], [6])
    raw["experiments"][0] |= {"space": "s3", "transfer": TRANSFER, "cost": COST}
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([3, 4, 6], [10])


def test_searches_alone_need_no_retraining(raw):
    experiment = raw["experiments"][1]
    del experiment["retrain"]
    raw["experiments"] = [experiment | {"methods": [], "ablation": ["midas", "static", "no_patch"]}]
    plan = load(raw)
    assert len(runs(plan, "search")) == 3 * len(raw["seeds"])
    assert not list(plan.cells(evaluated=True))
    assert (plan.tables(), plan.figures()) == ([5], [1, 2, 3, 4, 5])


def test_lookup_runs_name_their_files(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    plan = load(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})
    run = LookupRun.model_validate_json(plan.run("lookup", "nas_bench_201", "digits", "static", 0))
    folder = plan.folder("nas_bench_201", "digits", "static", 0)
    assert (run.genotype, run.history) == (str(folder / "decode/genotype.json"), str(folder / "search/history.csv"))


# --- descriptions

MODELS = [Config, Method, Search, Retrain, Transfer, Cost, UserDataset, Experiment, Analysis]


def test_every_key_is_described():
    models = [
        value
        for value in [*vars(config).values(), *vars(midas.config.settings).values()]
        if isinstance(value, type) and issubclass(value, Strict)
    ]
    assert set(MODELS) == set(models) - {Strict}
    for model in MODELS:
        for name, field in model.model_fields.items():
            assert len(field.description or "") > 5, f"{model.__name__}.{name}"


def test_the_schema_describes_every_key():
    schema = json.loads(config.schema())
    described = {"Config": schema, **schema["$defs"]}
    for model in MODELS:
        properties = described[model.__name__]["properties"]
        assert list(properties) == list(model.model_fields)
        assert all("description" in key for key in properties.values())
        assert described[model.__name__]["additionalProperties"] is False


def test_the_table_has_a_row_for_every_key():
    rows = [line for line in config.table().splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(model.model_fields) for model in MODELS)
    for model in MODELS:
        for name, field in model.model_fields.items():
            assert any(row.startswith(f"| `{name}` |") and row.endswith(f"| {field.description} |") for row in rows)


# --- transfer, cost, groups of classes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"methods": ["no_patch"]},
            "methods: 'no_patch' is no evaluated method of that experiment; allowed: midas, static",
        ),
        ({"methods": ["x"]}, "methods: method 'x' does not exist; allowed: midas, static, no_patch"),
        ({"seeds": [7]}, "seeds: 7 is not allowed; allowed: 0, 1"),
        ({"seeds": [1, 0, 1]}, "seeds: [1, 0, 1] is not allowed; each seed once"),
        ({"cells": 2}, "cells: 2 is not allowed; darts needs at least 3"),
        (
            {"auxiliary": 0.4},
            "auxiliary: 0.4 is not allowed at image_size 64; the auxiliary head is defined for 224, set 0",
        ),
        ({"image_size": 80}, "image_size: 80 is not allowed; a multiple of 32"),
        ({"gpus": 3, "batch_size": 64}, "batch_size: 64 is not allowed; a multiple of gpus (3)"),
        (
            {"batch_size": 6, "gpus": 2, "mixup": 0.2},
            "batch_size: 6 is not allowed; mixup and cutmix need an even one on each GPU",
        ),
        (
            {"image_size": 224, "channels": 8},
            "channels_last: true is not allowed on a CPU with fewer than 16 channels at image_size 224, "
            "where oneDNN 3.13 crashes; set false",
        ),
        ({"batch_size": 1438}, "batch_size: 1438 is not allowed; digit_photos has 1437 training images"),
        ({"channels": 1}, "channels: 1 is not allowed; the network for large images needs at least 2"),
        (
            {"image_size": 32, "batch_size": 2, "gpus": 2},
            "batch_size: 2 is not allowed; it is 1 image on each GPU, and batch normalisation needs two values of a map of 1x1",
        ),
        ({"epochs": 5}, "warmup_epochs: 5 is not allowed; fewer than epochs (5)"),
        (
            {"dataset": "cifar10"},
            "dataset: 'cifar10' is not allowed; allowed: digit_photos, imagenet, or a data set of kind folder",
        ),
        (
            {"dataset": "photos"},
            f"dataset: data set 'photos' does not exist; allowed: {', '.join(KNOWN)}",
        ),
    ],
)
def test_a_wrong_transfer_ends_in_a_line(raw, change, expected):
    raw["experiments"][1]["transfer"] = TRANSFER | change
    assert problems(raw) == [f"experiments.1.transfer.{expected}"]


def test_a_transfer_needs_a_network_for_large_images(raw):
    raw["experiments"][0]["transfer"] = TRANSFER
    assert problems(raw) == [
        "experiments.0.transfer: not allowed in nas_bench_201, whose cells have no ImageNet network; allowed: the DARTS spaces"
    ]


def test_images_of_a_transfer_have_its_size(raw):
    raw["experiments"][1]["transfer"] = TRANSFER | {"image_size": 96}
    plan = load(raw)
    run = json.loads(plan.run("transfer", "darts", "digits", "midas", 0))
    assert run["dataset"]["image"] == [96, 96]
    assert run["dataset"]["path"] == str(plan.root / "data/digit_photos/images")
    assert json.loads(plan.run("data", dataset="digit_photos"))["in_memory"] is False
    assert json.loads(plan.run("data", dataset="digits"))["in_memory"] is True


@pytest.mark.parametrize("opened", [True, False, None])
def test_images_of_a_transfer_are_opened_before_unless_the_configuration_says_no(raw, opened):
    raw["experiments"][1]["transfer"] = TRANSFER
    plan = load(raw if opened is None else raw | {"open_images": opened})
    assert json.loads(plan.run("data", dataset="digit_photos"))["opened"] is (opened is not False)
    assert json.loads(plan.run("data", dataset="digits"))["opened"] is True  # held in memory, so read in any case


def test_classes_of_imagenet_that_differ_are_refused_before_any_job(raw, tmp_path):
    for folder in ("train/a", "train/b", "val"):
        (tmp_path / "imagenet" / folder).mkdir(parents=True)
    raw["experiments"][1]["transfer"] = TRANSFER | {"dataset": "imagenet"}
    (line,) = problems(raw | {"data_root": str(tmp_path)})
    assert line.startswith(f"experiments.1.transfer.dataset: {tmp_path}/imagenet/val: has no folder for each class")


def test_large_images_are_not_searched_on(raw):
    raw["experiments"][1]["dataset"] = "digit_photos"
    raw["analysis"] = None
    assert problems(raw) == [
        "experiments.1.dataset: 'digit_photos' is not allowed; its images are read one by one, for a transfer alone"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"baseline": "x"}, "cost.baseline: method 'x' does not exist; allowed: midas, static, no_patch"),
        ({"methods": ["midas", "static"]}, "cost.methods: 'static' is the baseline; name the others alone"),
        ({"resolutions": [16, 18]}, "cost.resolutions: 18 is not allowed; images of 18x18 can't be halved to 1/4"),
        (
            {"resolutions": [24]},
            "cost.resolutions: 24 is not allowed; 4 does not divide the 6 pixels of a map of darts; "
            "allowed: 1, 2, 3, 6, 12, 24 or null",
        ),
        (
            {"patch_sizes": [3]},
            "cost.patch_sizes: 3 does not divide the 16 pixels of a map of darts; allowed: 1, 2, 4, 8, 16 or null",
        ),
    ],
)
def test_a_wrong_cost_ends_in_a_line(raw, change, expected):
    raw["experiments"][1]["cost"] = COST | change
    assert problems(raw) == [f"experiments.1.{expected}"]


def test_patches_need_a_method_that_has_them(raw):
    raw["experiments"][1]["cost"] = {"baseline": "midas", "methods": ["static"], "patch_sizes": [2]}
    assert problems(raw) == ["experiments.1.cost.patch_sizes: not allowed; the first method, 'static', has no patches"]


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


# --- random cells


def test_random_cells_are_decoded_and_evaluated_and_never_searched(raw):
    raw["methods"]["random"] = {"weights": "random"}
    raw["experiments"][1]["methods"].append("random")
    plan = load(raw)
    assert "random" in {cell.method for cell in plan.cells("darts", evaluated=True)}
    assert "random" not in {cell.method for cell in plan.cells("darts", searched=True)}
    assert json.loads(plan.run("decode", "darts", "digits", "random", 1)) | {"method": None} == {
        "space": "darts",
        "method": None,
        "seed": 1,
        "dump": None,
    }


def test_a_random_cell_is_no_search_to_look_into(raw):
    raw["methods"]["random"] = {"weights": "random"}
    raw["experiments"][1]["methods"].append("random")
    raw["analysis"]["method"] = "random"
    assert problems(raw) == [
        "analysis: method 'random' is no attention method of that experiment; allowed: midas, no_patch"
    ]


# --- anything at all: a plan or a ConfigError

WORDS = ["pairs", "static", "attention", "cifar10", "digits", "darts", "nas_bench_201", "auto", "..", "/", "", "null"]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.dates(),
)
KEYS = (
    st.sampled_from(["weights", "search", "path", "kind", "midas"])
    | st.text(max_size=5)
    | st.integers(0, 3)
    | st.dates()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)


def plan_or_lines(raw):
    try:
        return load(raw), []
    except ConfigError as error:
        return None, error.problems


@st.composite
def mutated(draw):
    """The demo's configuration with one to three things in it replaced, taken away or added."""
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for _ in range(draw(st.integers(1, 3))):
        node = raw
        while True:
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(node[place], dict | list) and draw(st.integers(0, 3)):
                node = node[place]
                continue
            kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if kind == "remove":
                del node[place]
            elif kind == "replace":
                node[place] = draw(VALUES)
            elif isinstance(node, dict):
                node[draw(KEYS)] = draw(VALUES)
            else:
                node.append(copy.deepcopy(node[place]))
            break
    return raw


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_whatever_a_configuration_holds_it_ends_in_a_plan_or_in_lines(raw):
    raw = {"results_dir": "nowhere", **raw} if isinstance(raw, dict) else raw
    plan, lines = plan_or_lines(raw)
    assert (plan is None) == bool(lines)
    assert all("\n" not in line and line.strip() for line in lines)
    if plan is not None:
        assert len(runs(plan, "search")) == len(list(plan.cells()))


# --- the command line of a step


def step_process(*arguments):
    command = [sys.executable, "-m", "midas.search", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_wrong_run_ends_in_lines_and_writes_nothing(tmp_path):
    result = step_process('{"space": 1}', tmp_path / "out")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert "error: space: 1 is not allowed; input should be a valid string" in lines
    assert "error: dataset: missing; field required" in lines
    assert list(tmp_path.iterdir()) == []


def step(monkeypatch, capsys, *arguments):
    """Exit code and error lines of the search step in this process."""
    monkeypatch.setattr(sys, "argv", ["search.py", *map(str, arguments)])
    try:
        main(SearchRun, search)
    except SystemExit as end:
        return end.code, capsys.readouterr().err
    return 0, capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(search_run, tmp_path, monkeypatch, capsys):
    run = search_run().model_copy(update={"device": "cuda"})
    code, error = step(monkeypatch, capsys, run.model_dump_json(), tmp_path / "out")
    assert code == 2
    assert error == "error: device: 'cuda' is not allowed; this machine has no usable GPU, use auto or cpu\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "RUN: not JSON"),
        ("not JSON", "RUN: not JSON"),
        ("3", ""),
        ("[]", ""),
        ("null", ""),
        ('{"provenance": {}}', ""),
        (b"\xff\xfe", ""),
    ],
)
def test_a_run_file_that_holds_no_run(tmp_path, monkeypatch, capsys, content, message):
    (tmp_path / "run").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, error = step(monkeypatch, capsys, tmp_path / "run", tmp_path / "out")
    assert code == 2
    assert all(line.startswith("error: ") for line in error.splitlines())
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_run_file_that_is_missing(tmp_path, monkeypatch, capsys):
    code, error = step(monkeypatch, capsys, tmp_path / "run", tmp_path / "out")
    assert (code, error) == (2, f"error: RUN: {tmp_path}/run can't be read: No such file or directory\n")


def test_without_arguments_the_usage_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="midas.search"))
    code, _ = step(monkeypatch, capsys)
    assert str(code).startswith("usage: python -m midas.search RUN FOLDER")


def test_a_metrics_file_runs_the_same_again(searched, tmp_path, monkeypatch, capsys):
    code, _ = step(monkeypatch, capsys, searched / "metrics.json", tmp_path / "again")
    assert code == 0
    for name in ("history.csv", "arch.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (searched / name).read_bytes()


# --- names are text


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ("{a: ['1', 00001], b: ['2', '3']}", ["analysis.groups.a.1: 1 is not allowed"]),
        ("{a: ['1', no], b: [null, '3']}", ["analysis.groups.a.1: False is", "analysis.groups.b.0: None is"]),
        (
            "{a: ['1', 1_0], b: ['2', 2020-01-01]}",
            ["analysis.groups.a.1: 10 is", "analysis.groups.b.1: datetime.date(2020"],
        ),
        ("{a: ['1', '4'], b: ['5', '6'], 7: ['2', '3']}", ["analysis.groups.7: 7 is not allowed"]),
    ],
)
def test_a_name_that_yaml_reads_as_something_else_is_refused_with_a_hint(raw, groups, lines):
    raw["analysis"]["groups"] = yaml.safe_load(groups)
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert len(caught.value.problems) == len(lines)
    for problem, line in zip(caught.value.problems, lines, strict=True):
        assert problem.startswith(line)
        assert problem.endswith("in YAML a text that reads as a number, a date, yes, no or null needs quotes")


@pytest.mark.parametrize(("key", "value"), [("size", "007"), ("note", "2020"), ("device", "no")])
def test_other_texts_get_the_hint_too(raw, key, value):
    raw[key] = yaml.safe_load(value)
    with pytest.raises(ConfigError, match=rf"^{key}: ") as caught:
        load(raw)
    assert ("needs quotes" in str(caught.value)) == (key != "device")
