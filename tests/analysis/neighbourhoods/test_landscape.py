"""Sums over distances, quantiles and paths over the benchmark, against the cells listed one by one."""

import numpy as np
import pytest

from midas.analysis.neighbourhoods import landscape
from midas.analysis.neighbourhoods.landscape import COUNTS, RADIUS, place_of, texts
from midas.spaces.benchmark import CELLS, numbers
from midas.spaces.genotype import parse
from midas.spaces.neighbours.nas_bench_201 import between, distance, neighbours

VALUES = np.random.default_rng(0).normal(80, 10, CELLS)
SOME = [parse(texts()[place]) for place in (0, 9_999, CELLS - 1)]


def test_every_cell_has_a_place():
    assert set(texts()) == set(numbers())
    assert [place_of(parse(texts()[place])) for place in range(0, CELLS, 97)] == list(range(0, CELLS, 97))
    assert COUNTS == (1, 24, 240, 1280)


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_sums_are_those_over_the_listed_neighbours(cell):
    shells, drops = landscape.shells(VALUES)[:, place_of(cell)], landscape.drops(VALUES)[:, place_of(cell)]
    own, changes = VALUES[place_of(cell)], landscape.changes(place_of(cell), VALUES)
    for radius in range(RADIUS + 1):
        listed = VALUES[[place_of(other) for other in neighbours(cell, radius)]]
        np.testing.assert_allclose(shells[radius], listed.sum(), rtol=1e-9)
        np.testing.assert_allclose(drops[radius], own - listed.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(changes[radius], np.abs(listed - own).mean(), rtol=1e-9)


def test_weights_of_cells_come_to_their_neighbours():
    """Two cells, one of which counts twice: quantiles are those of all their neighbours together."""
    places = np.array([0, 9_999, 9_999])
    weights = landscape.shells(np.bincount(places, minlength=CELLS).astype(float))
    for radius in range(RADIUS + 1):
        pooled = [VALUES[place_of(n)] for place in places for n in neighbours(parse(texts()[place]), radius)]
        found = landscape.quantiles(VALUES, weights[radius])
        expected = np.quantile(pooled, list(landscape.QUANTILES.values()), method="inverted_cdf")
        np.testing.assert_array_equal(list(found.values()), expected)


def test_over_all_cells_a_drop_is_nothing():
    np.testing.assert_allclose(landscape.drops(VALUES).mean(1), 0, atol=1e-9)


def test_ends_of_paths_are_the_cells_at_distance_3_of_the_nearest_accuracies():
    place = 9_999
    found = landscape.similar(place, VALUES, 10)
    there = [place_of(other) for other in neighbours(SOME[1], RADIUS)]
    nearest = sorted(there, key=lambda other: (abs(VALUES[other] - VALUES[place]), other))
    assert found.tolist() == nearest[:10]


def test_steps_of_paths_are_means_over_the_listed_cells():
    starts = np.array([place_of(cell) for cell in SOME])
    ends = np.array([landscape.similar(place, VALUES, 1)[0] for place in starts])
    found = landscape.steps(starts, ends, VALUES)
    for row, start, end in zip(found, starts, ends, strict=True):
        first, last = (parse(texts()[place]) for place in (start, end))
        assert distance(first, last) == 3
        listed = [VALUES[[place_of(cell) for cell in step]].mean() for step in between(first, last)]
        np.testing.assert_allclose(row, listed, rtol=1e-9)


def test_a_barrier_is_that_of_the_lowest_step_below_the_ends():
    means = np.array([[90.0, 80, 85, 94], [90, 91, 92, 90], [70, 95, 95, 90]])
    np.testing.assert_allclose(landscape.barriers(means), [12, 0, 10])
