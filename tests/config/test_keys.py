"""A key that is unknown, missing or of a wrong value ends in one line; names must be fit for folders."""

import re

import pytest
from small_configuration import MISSING, problems, put

from midas.config.keys import Analysis, Config, Experiment
from midas.config.method import Method
from midas.config.settings import Retrain, Search, UserDataset

WRONG = [
    ("sizes", 3, f"sizes: unknown key, did you mean size? allowed: {', '.join(Config.model_fields)}"),
    (
        "methods.midas.patchsize",
        4,
        f"methods.midas.patchsize: unknown key, did you mean patch_size? allowed: {', '.join(Method.model_fields)}",
    ),
    (
        "experiments.1.dataste",
        "x",
        f"experiments.1.dataste: unknown key, did you mean dataset? allowed: {', '.join(Experiment.model_fields)}",
    ),
    (
        "experiments.1.search.chan",
        4,
        f"experiments.1.search.chan: unknown key, did you mean channels? allowed: {', '.join(Search.model_fields)}",
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
        "methods.midas.weights: 'gumbel' is not allowed; input should be 'static', 'attention', 'random' or 'given'",
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
    ("experiments", [], "experiments: [] is not allowed; at least one, or one of the keys proxies, functions"),
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


@pytest.mark.parametrize("betas", [[1.0, 0.999], [0.5, 1]])
def test_a_beta_of_1_is_refused_since_adam_divides_by_what_is_left(raw, betas):
    raw["experiments"][0]["search"]["arch_betas"] = betas
    (line,) = problems(raw)
    assert re.match(r"experiments\.0\.search\.arch_betas\.[01]: 1.* is not allowed; input should be less than 1", line)
