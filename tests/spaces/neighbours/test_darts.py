"""Neighbours among cells of the DARTS space and of S1 to S4."""

from collections import Counter

import pytest
from published_cells import DARTS_V2

from midas.spaces import SPACES
from midas.spaces.genotype import Genotype, check_nodes, parse
from midas.spaces.neighbours.darts import counts, distance, neighbours, sample

SPACE = SPACES["darts"]
CELL = parse(DARTS_V2)
ALL = (49 * 49**3 * 1 * 3 * 6 * 10) ** 2
"""Cells of the space: two of 2, 3, 4 and 5 sources and an operation of seven on each, for both kinds."""
S2 = Genotype("darts", dict.fromkeys(("normal", "reduce"), ((("skip_connect", 0), ("sep_conv_3x3", 1)),) * 4))


def texts(cells):
    return [str(cell) for cell in cells]


def test_at_distance_1_lie_264_cells_96_by_another_operation_and_168_by_another_source():
    found = {change: texts(neighbours(CELL, SPACE, change)) for change in (None, "operation", "source")}
    assert {change: len(set(cells)) for change, cells in found.items()} == {None: 264, "operation": 96, "source": 168}
    assert sorted(found["operation"] + found["source"]) == sorted(found[None])
    for change, cells in found.items():
        for cell in map(parse, cells):
            assert distance(CELL, cell) == 1
            check_nodes(cell)
            sources = [[s for kind in cell.cells for s, *_ in c.edges(kind)] for c in (CELL, cell)]
            if change:
                assert (sources[0] == sources[1]) == (change == "operation")


def test_all_cells_of_the_space_lie_at_some_distance():
    found = counts(CELL, SPACE)
    assert found[:2] == [1, 264]
    assert (len(found), sum(found)) == (17, ALL)


def test_at_distance_2_lie_as_many_as_neighbours_of_neighbours_that_are_no_nearer():
    """In S2, where they can be listed."""
    space = SPACES["s2"]
    near = {text: cell for cell in neighbours(S2, space) for text in [str(cell)]}
    further = {str(other) for cell in near.values() for other in neighbours(cell, space)}
    further -= {*near, str(S2)}
    assert {distance(S2, parse(text)) for text in further} == {2}
    assert [1, len(near), len(further)] == counts(S2, space)[:3]


@pytest.mark.parametrize("radius", [1, 3, 16])
def test_drawn_cells_are_different_and_at_exactly_the_distance(radius):
    found = sample(CELL, SPACE, radius, 30, seed=0)
    assert {distance(CELL, cell) for cell in found} == {radius}
    assert len(set(texts(found))) == 30
    assert all(len({source for _, source in node}) == 2 for cell in found for node in cell.cells["normal"])
    assert texts(sample(CELL, SPACE, radius, 30, seed=0)) == texts(found)
    assert texts(sample(CELL, SPACE, radius, 30, seed=1)) != texts(found)


def test_every_cell_at_a_distance_is_drawn_as_often():
    assert set(texts(sample(CELL, SPACE, 1, 264, seed=0))) == set(texts(neighbours(CELL, SPACE)))
    space = SPACES["s2"]
    for radius in (1, 2):  # at 2, changes of one node and of two
        cells, draws = counts(S2, space)[radius], 800
        drawn = Counter(str(sample(S2, space, radius, 1, seed)[0]) for seed in range(draws))
        expected = draws / cells
        chi_squared = sum((count - expected) ** 2 / expected for count in drawn.values())
        chi_squared += (cells - len(drawn)) * expected
        assert abs(chi_squared - (cells - 1)) < 4 * (2 * (cells - 1)) ** 0.5


def test_operations_are_those_that_an_edge_offers():
    for name in ("s1", "s3"):
        space = SPACES[name]
        first = {
            kind: tuple(
                tuple(
                    (space.cells[kind].candidates[edge][-1], space.cells[kind].edges[edge][0])
                    for edge in spec.incoming(n)[:2]
                )
                for n in spec.nodes
            )
            for kind, spec in space.cells.items()
        }
        for cell in neighbours(Genotype("darts", first), space):
            for kind, spec in space.cells.items():
                offered = dict(zip(spec.edges, spec.candidates, strict=True))
                assert all(op in offered[source, target] and op != "none" for source, target, op in cell.edges(kind))


def test_none_is_no_neighbour_where_a_method_offers_it():
    assert texts(neighbours(CELL, SPACE.with_none())) == texts(neighbours(CELL, SPACE))


def test_a_node_without_inputs_stays_so_and_is_read_by_none():
    node = (("skip_connect", 0), ("skip_connect", 1))
    sparse = Genotype("darts", {"normal": (node, (), node, node), "reduce": (node,) * 4})
    for cell in neighbours(sparse, SPACE):
        check_nodes(cell)
        assert cell.nodes("normal") == [2, 4, 5]


def refused(cell, space=SPACE):
    with pytest.raises(ValueError, match=r"not allowed|not in|takes a node twice") as caught:
        list(neighbours(cell, space))
    (line,) = str(caught.value).splitlines()
    return line


def test_a_cell_of_another_space_is_refused():
    benchmark = parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    assert refused(benchmark).endswith("is not allowed; a cell of the DARTS space or of S1 to S4")
    assert refused(CELL, SPACES["nas_bench_201"]) == "space nas_bench_201 is not allowed; one with DARTS's cells"
    wrong = "dil_conv_3x3 from node 2 to node 5 of the normal cell is not in s2; allowed: skip_connect, sep_conv_3x3"
    assert refused(CELL, SPACES["s2"]) == wrong


def test_a_node_that_takes_one_node_twice_is_refused():
    node = (("skip_connect", 0), ("sep_conv_3x3", 0))
    twice = Genotype("darts", {"normal": (node,) * 4, "reduce": (node,) * 4})
    assert refused(twice) == "node 2 of the normal cell takes a node twice; each at most once has neighbours here"


def test_distances_and_counts_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"^radius: 17 is not allowed; 1 to 16, the number of edges$"):
        sample(CELL, SPACE, 17, 1, 0)
    with pytest.raises(ValueError, match=r"^count: 265 is not allowed; 1 to 264, the cells at distance 1$"):
        sample(CELL, SPACE, 1, 265, 0)
    smaller = Genotype("darts", {kind: nodes[:3] for kind, nodes in CELL.cells.items()})
    with pytest.raises(ValueError, match="a cell whose nodes have as many edges as"):
        distance(CELL, smaller)
