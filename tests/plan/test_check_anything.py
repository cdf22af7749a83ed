"""Whatever a configuration holds, it ends in a plan or in lines."""

import copy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import ROOT
from small_configuration import runs

from midas.config.keys import ConfigError
from midas.plan.check import load

pytestmark = pytest.mark.usefixtures("no_data_of_this_machine")


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
