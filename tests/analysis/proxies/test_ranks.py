"""Rank correlation, its interval, and the best of a few by a score, against scipy and against all draws one by one."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from midas.analysis.proxies.ranks import FEWEST, RESAMPLES, chances, correlation, picked, spearman


def test_the_correlation_is_scipys_with_ties_too():
    draw = np.random.default_rng(0)
    x, y = draw.integers(5, size=(20, 30)), draw.normal(size=(20, 30))
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spearman(x, y), expected, rtol=1e-12)


def test_equal_orders_correlate_fully_and_constant_ones_not_at_all():
    x = np.arange(20.0)
    assert correlation(x, np.exp(x / 5)).value == pytest.approx(1)
    assert correlation(x, -x).value == pytest.approx(-1)
    constant = correlation(x, np.ones(20))
    assert np.isnan([constant.value, constant.low, constant.high]).all()


def test_cells_without_one_of_the_numbers_are_left_out():
    x, y = np.arange(20.0), np.arange(20.0)
    y[[3, 7]], x[5] = [np.nan, np.inf], np.nan
    found = correlation(x, y)
    assert (found.n, found.value) == (17, pytest.approx(1))
    few = correlation(x[:FEWEST], y[:FEWEST])
    assert few.n < FEWEST
    assert np.isnan(few.value)


def test_the_interval_is_that_of_resampled_cells():
    draw = np.random.default_rng(1)
    x = draw.normal(size=60)
    y = x + draw.normal(size=60)
    found = correlation(x, y, seed=3)
    again = np.random.default_rng(3).integers(60, size=(RESAMPLES, 60))
    values = [stats.spearmanr(x[i], y[i]).statistic for i in again]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.low < found.value < found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Normal numbers with correlation r: Spearman's is 6 / pi asin(r / 2)."""
    draw, truth, covered = np.random.default_rng(2), 6 / np.pi * np.arcsin(0.25), 0
    for _ in range(100):
        x = draw.normal(size=50)
        found = correlation(x, 0.5 * x + 0.75**0.5 * draw.normal(size=50))
        covered += found.low <= truth <= found.high
    assert 86 <= covered <= 100


@pytest.mark.parametrize("m", [1, 2, 3, 6, 7])
def test_picks_are_those_of_all_draws(m):
    draw = np.random.default_rng(4)
    scores, values = draw.normal(size=7), draw.normal(size=7)
    found = [values[max(drawn, key=lambda i: scores[i])] for drawn in combinations(range(7), m)]
    assert picked(scores, values, m) == pytest.approx((np.mean(found), np.std(found)), abs=1e-12)
    assert chances(7, m).sum() == pytest.approx(1)


def test_of_many_the_best_is_picked():
    scores, values = np.arange(1000.0), np.arange(1000.0) * 2
    assert picked(scores, values, 1000) == (1998.0, 0.0)
    assert picked(scores, values, 1)[0] == pytest.approx(values.mean())
    with pytest.raises(ValueError, match="8 of 7 cells can't be drawn"):
        chances(7, 8)
