"""Neighbours and paths among the cells of NAS-Bench-201."""

from itertools import pairwise

import pytest

from midas.spaces.benchmark import numbers
from midas.spaces.genotype import parse
from midas.spaces.neighbours.nas_bench_201 import between, cell_of, distance, neighbours, operations_of, shortest_paths

BEST = parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")
SKIPS = parse("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|")
DARTS = parse(
    "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


@pytest.mark.parametrize("cell", [BEST, SKIPS], ids=["best", "skips"])
def test_at_each_distance_lie_as_many_cells_as_there_are_each_once_and_at_that_distance(cell):
    found = {radius: list(neighbours(cell, radius)) for radius in (1, 2, 3)}
    assert {radius: len({str(other) for other in cells}) for radius, cells in found.items()} == {1: 24, 2: 240, 3: 1280}
    for radius, cells in found.items():
        assert len(cells) == len({str(other) for other in cells})
        assert {distance(cell, other) for other in cells} == {radius}
        assert all(str(other) in numbers() for other in cells)


def test_all_cells_of_the_benchmark_lie_at_some_distance():
    found = {str(other) for radius in range(7) for other in neighbours(SKIPS, radius)}
    assert found == set(numbers())


def test_operations_stand_in_the_order_of_the_edges():
    assert operations_of(BEST) == (*["nor_conv_3x3"] * 3, "skip_connect", *["nor_conv_3x3"] * 2)
    assert cell_of(operations_of(BEST)) == BEST
    assert distance(BEST, SKIPS) == distance(SKIPS, BEST) == 5


def test_shortest_paths_change_each_differing_edge_once_in_every_order():
    other = next(cell for cell in neighbours(BEST, 3) if operations_of(cell)[0] == "none")
    paths = list(shortest_paths(BEST, other))
    assert len({tuple(map(str, path)) for path in paths}) == len(paths) == 6
    for path in paths:
        assert (path[0], path[-1]) == (BEST, other)
        assert [distance(a, b) for a, b in pairwise(path)] == [1, 1, 1]
    steps = between(BEST, other)
    assert [len(step) for step in steps] == [1, 3, 3, 1]
    for number, step in enumerate(steps):
        on_paths = [str(path[number]) for path in paths]
        assert {str(cell) for cell in step} == set(on_paths)
        assert len({on_paths.count(str(cell)) for cell in step}) == 1  # so a mean over a step is one over the paths


def test_a_cell_is_its_own_path():
    assert between(BEST, BEST) == [[BEST]]
    assert list(shortest_paths(BEST, BEST)) == [[BEST]]


@pytest.mark.parametrize(
    "ask", [operations_of, lambda cell: list(neighbours(cell, 1)), lambda cell: distance(BEST, cell)]
)
def test_a_cell_of_another_space_is_refused(ask):
    with pytest.raises(ValueError, match=r"^Genotype\(.* is not allowed; a cell of nas_bench_201$"):
        ask(DARTS)


def test_a_distance_that_no_cell_has_is_refused():
    with pytest.raises(ValueError, match=r"^radius: 7 is not allowed; 0 to 6, the number of edges$"):
        list(neighbours(BEST, 7))
