"""Cells of the same accuracy, and the permutation test against them."""

import numpy as np
import pytest

from midas.analysis.neighbourhoods.matching import compare, matched


def test_matched_cells_are_the_nearest_that_were_not_found():
    accuracy = np.array([50.0, 90, 91, 89.5, 90.2, 10, 90.2])
    found = np.array([1, 4])
    assert matched(found, accuracy, 3).tolist() == [[6, 3, 2], [6, 3, 2]]
    allowed = np.array([True, True, False, True, True, True, False])
    assert matched(found, accuracy, 2, allowed).tolist() == [[3, 0], [3, 0]]


def test_one_cell_of_one_set_has_the_exact_share_of_its_tail():
    """Found is the lowest of four: one draw in four is as low, so that p is a half; of a hundred it is a fiftieth."""
    for size, p_value in ((3, 0.5), (99, 0.02)):
        pools = np.arange(1.0, size + 1)[None]
        found = compare(np.array([0.0]), pools, 20_000)
        assert found["p_value"] == pytest.approx(p_value, rel=0.1)
        assert found["difference"] == pytest.approx(-pools.mean())
        assert (found["found"], found["matched"]) == (0, pools.mean())
    assert found["verdict"] == "lower at 0.05"


def test_a_shift_is_found_with_its_sign_and_lies_in_the_interval():
    draw = np.random.default_rng(1)
    for shift, verdict in ((-2.0, "lower at 0.05"), (2.0, "higher at 0.05")):
        pools = draw.normal(size=(20, 50))
        found = compare(draw.normal(size=20) + shift, pools, 5000)
        assert found["verdict"] == verdict
        assert found["low"] < shift < found["high"]
        assert found["p_value"] == pytest.approx(2 / 5001)


def test_without_a_difference_the_test_rejects_as_often_as_it_says():
    draw, rejected, covered = np.random.default_rng(2), 0, 0
    for _ in range(400):
        values = draw.exponential(size=(5, 21))  # as skew as drops are
        found = compare(values[:, 0], values[:, 1:], 400)
        rejected += found["p_value"] < 0.05
        covered += found["low"] <= 0 <= found["high"]
    assert 8 <= rejected <= 36  # 20 on average
    assert covered >= 360


def test_interval_and_p_value_agree_on_what_is_shown():
    draw = np.random.default_rng(3)
    for _ in range(100):
        values = draw.exponential(size=(4, 11))
        found = compare(values[:, 0] * 0.3, values[:, 1:], 2000)
        shown = found["high"] < 0 or found["low"] > 0
        assert shown == (found["p_value"] < 0.05) or abs(found["p_value"] - 0.05) < 0.01


def test_equal_numbers_show_nothing():
    found = compare(np.ones(3), np.ones((3, 4)), 100)
    assert (found["difference"], found["p_value"], found["verdict"]) == (0, 1, "no difference shown")
