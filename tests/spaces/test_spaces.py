"""The spaces: RobustDARTS's lists, and that a decoded or drawn cell holds nothing that its space doesn't offer."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas.config.method import Method
from midas.methods.composition import supernet_of
from midas.methods.decoding import decode_weights, random_genotype
from midas.networks.skeletons import build
from midas.spaces import SPACES

ROBUST = ("s1", "s2", "s3", "s4")


@pytest.mark.parametrize("name", ROBUST)
def test_candidates_of_each_edge_are_those_that_robustdarts_lists(name, shared_data):
    listed = json.loads((shared_data / "darts/rdarts_spaces.json").read_text())["spaces"][name.upper()]
    for kind, spec in SPACES[name].cells.items():
        assert [f"{a}->{b}" for a, b in spec.edges] == listed["edges"]
        assert [set(offered) for offered in spec.candidates] == [set(operations) for operations in listed[kind]]


@pytest.mark.parametrize("name", ROBUST)
def test_supernets_hold_exactly_the_offered_operations(name):
    space = SPACES[name]
    supernet = supernet_of(space, Method(patch_size=4), channels=2, cells=3, classes=10)
    assert {"normal", "reduce"} <= set(supernet.kinds)
    for kind, cell in zip(supernet.kinds, supernet.cells, strict=True):
        held = {
            (edge, operation)
            for candidates in cell.candidates
            for operation, edges in candidates.branches
            for edge in edges
        }
        spec = space.cells[kind]
        offered = {(e, o) for e, operations in enumerate(spec.candidates) for o in operations if o != "none"}
        assert held == offered
        # "none" has no module; it has a weight
        with_weight = {
            (e, space.operations[o]) for slots in cell.mixing.slots.values() for e, o in places(slots, space)
        }
        assert with_weight == {(e, o) for e, operations in enumerate(spec.candidates) for o in operations}


def places(slots, space):
    for place in slots.mapped + slots.none:
        row, operation = divmod(place, len(space.operations))
        yield slots.edges[row], operation


def check(space, genotype, none_allowed):
    for kind, spec in space.cells.items():
        for node, target in zip(genotype.cells[kind], spec.nodes, strict=True):
            sources = [source for _, source in node]
            assert len(set(sources)) == len(sources)  # two different inputs
            assert sources == sorted(sources)
            assert len(node) == (space.kept_edges or len(spec.incoming(target)))
            for operation, source in node:
                assert operation in spec.candidates[spec.edges.index((source, target))]
                assert none_allowed or operation != "none"


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(SPACES)), st.integers(0, 2**32 - 1), st.sampled_from([None, False, True]), st.booleans())
def test_no_weights_whatever_decode_to_an_operation_that_an_edge_lacks(name, seed, decode_none, with_pairs):
    """Random weights, also where nothing is offered; the two-edge spaces never decode none unless told to."""
    space, draw = SPACES[name], np.random.default_rng(seed)
    kinds = list(space.cells)
    edges = len(space.cells[kinds[0]].edges)
    p = draw.random((len(kinds), edges, len(space.operations)))
    pairs = len(space.cells[kinds[0]].pairs)
    pi = draw.random((len(kinds), pairs)) if with_pairs and space.kept_edges else None
    genotype = decode_weights(p, pi, kinds, space, decode_none)
    check(space, genotype, space.decodes_none if decode_none is None else decode_none)


@pytest.mark.parametrize("name", SPACES)
def test_random_cells_are_valid_and_depend_on_the_seed_alone(name):
    space = SPACES[name]
    drawn = [random_genotype(space, seed) for seed in range(30)]
    for genotype in drawn:
        check(space, genotype, space.decodes_none)
    assert len({str(genotype) for genotype in drawn}) > 25
    assert drawn[3] == random_genotype(space, 3)
    build(drawn[0], channels=2, cells=space.min_cells, classes=10)


def test_random_cells_are_uniform():
    """Each pair of node 5's five edges in S2, and each of its operations, about equally often."""
    nodes = [random_genotype(SPACES["s2"], seed).cells["normal"][3] for seed in range(4000)]
    pairs = Counter(tuple(source for _, source in node) for node in nodes)
    assert len(pairs) == 10
    assert all(abs(count - 400) < 90 for count in pairs.values())  # 4.7 standard deviations
    operations = Counter(operation for node in nodes for operation, _ in node)
    assert set(operations) == {"skip_connect", "sep_conv_3x3"}
    assert abs(operations["skip_connect"] - 4000) < 210


def test_a_random_cell_leaves_none_out_where_it_may_not_be_decoded():
    drawn = [random_genotype(SPACES["nas_bench_201"], seed, decode_none=False) for seed in range(100)]
    assert not any("none" in str(genotype) for genotype in drawn)
    assert any("none" in str(random_genotype(SPACES["nas_bench_201"], seed)) for seed in range(100))
