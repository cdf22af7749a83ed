"""Texts, numbers and truth values: what YAML and a command line make of them, and what is taken for what."""

import copy
import re

import pytest
import yaml
from small_configuration import COST, problems, put

from midas.config.keys import ConfigError
from midas.plan.check import load


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
