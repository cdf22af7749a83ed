"""Statistics of dumps: similarity, dip tests and weights, by hand and against other implementations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from diptest import diptest
from diptest.consts import Consts
from made_up_dumps import planted_dump, small_dump
from scipy.stats import beta, binom

from midas.analysis.statistics.class_tests import class_effect
from midas.analysis.statistics.dip import MOST_TABULATED, dip_summary, dip_tests
from midas.analysis.statistics.similarity import similarity
from midas.analysis.statistics.weights import weights


def test_beyond_the_table_of_p_values_they_are_those_of_its_last_row(recwarn: pytest.WarningsRecorder) -> None:
    """For the same sqrt(images) * dip; that of the package itself, which says nothing but that it is not exact."""
    last = MOST_TABULATED
    assert last == Consts._MAX_SAMPLE_SIZE
    draw = np.random.default_rng(0)
    p = 0.5 + 0.01 * draw.uniform(size=(last + 8_000, 1, 1, 2))
    tests = dip_tests(small_dump(p, [0] * len(p)))
    assert [str(warning.message) for warning in recwarn if "Sample size" in str(warning.message)] == []
    for dip_value, p_value in zip(tests["dip"], tests["p_value"], strict=True):
        same = dip_value * (len(p) / last) ** 0.5
        assert p_value == pytest.approx(Consts.compute_pval_interpolation(last, same), abs=1e-9)


def test_similarity_equals_cosines_by_hand() -> None:
    # class means (1, 0), (0, 1), (1, 1) / 2: raw cosines 0, 1/sqrt(2), 1/sqrt(2)
    p = np.array([[0.5, 0], [1.5, 0], [0, 1], [0.5, 0.5]])[:, None, None, :]
    table = similarity(small_dump(p, [0, 0, 1, 2])).set_index(["class_a", "class_b"])
    assert table.loc[("cat", "dog"), "cosine"] == pytest.approx(0)
    assert table.loc[("cat", "ship"), "cosine"] == pytest.approx(2**-0.5)
    # the mean over classes is (1/2, 1/2): ship equals it, cat and dog lie opposite each other
    assert table.loc[("cat", "dog"), "cosine_centred"] == pytest.approx(-1)
    assert np.isnan(table.loc[("cat", "ship"), "cosine_centred"])


def test_similarity_leaves_out_classes_without_images() -> None:
    table = similarity(small_dump(np.random.default_rng(0).random((4, 1, 1, 2)), [0, 0, 2, 2]))
    assert sorted(set(table["class_a"])) == ["cat", "ship"]


def test_dip_test_finds_two_modes_and_skips_what_is_constant_up_to_rounding() -> None:
    rng = np.random.default_rng(0)
    two_modes = np.concatenate([rng.normal(0.2, 0.01, 200), rng.normal(0.8, 0.01, 200)])
    p = np.zeros((400, 1, 2, 2))
    p[:, 0, 0, 0], p[:, 0, 0, 1] = two_modes, rng.normal(0.5, 0.05, 400)
    p[:, 0, 1, 0] = 0.25 + 1e-6 * (two_modes > 0.5)  # no more than rounding: no test
    p[:, 0, 1, 1] = two_modes  # not offered: no test
    offered = np.array([[[True, True], [True, False]]])
    tests = dip_tests(small_dump(p, [0] * 400, offered))
    assert list(zip(tests["edge"], tests["operation"], strict=True)) == [(0, "none"), (0, "skip_connect")]
    assert tests["p_value"][0] < 0.001
    assert tests["p_value"][1] > 0.05
    dip, p_value = diptest(p[:, 0, 0, 1].astype(np.float32).astype(np.float64))
    assert (tests["dip"][1], tests["p_value"][1]) == (dip, p_value)
    summary = dip_summary(tests, int(offered.sum()))
    keys = ("tested", "constant", "rejected", "rejected_share", "rejected_benjamini_hochberg")
    assert [summary[key] for key in keys] == [2, 1, 1, 0.5, 1]


def test_dip_test_leaves_out_what_float32_makes_steps_of() -> None:
    normal = np.random.default_rng(0).normal(size=25_000)
    coarse, fine = (np.float32(0.2 + deviation * normal) for deviation in (1e-6, 1.1e-5))
    assert diptest(coarse.astype(np.float64))[1] < 0.05  # one mode, and yet
    tests = dip_tests(small_dump(np.stack([coarse, fine], axis=1)[:, None, None, :], [0] * 25_000))
    assert tests["operation"].tolist() == ["skip_connect"]
    assert tests["p_value"][0] > 0.05


def test_dip_of_two_points_is_the_largest_there_is() -> None:
    # Hartigan and Hartigan 1985: the dip lies between 1 / (2 n) and 1/4
    p = np.repeat([0.0, 1.0], 50)[:, None, None, None]
    assert dip_tests(small_dump(p, [0] * 100))["dip"][0] == pytest.approx(0.25, abs=0.01)


def test_correction_for_many_tests_rejects_less() -> None:
    summary = dip_summary(pd.DataFrame({"p_value": [0.001, *np.linspace(0.03, 1, 99)]}), 100)
    assert summary["rejected"] == 4
    assert summary["rejected_benjamini_hochberg"] == 0


def test_rejections_are_compared_with_chance_by_the_binomial_distribution() -> None:
    summary = dip_summary(pd.DataFrame({"p_value": [0.01] * 12 + [0.5] * 88}), 100)
    assert summary["expected_by_chance"] == pytest.approx(5)
    assert summary["chance_p_value"] == pytest.approx(binom.sf(11, 100, 0.05))
    # Clopper and Pearson (Biometrika 1934) by quantiles of the beta distribution
    interval = summary["rejected_low"], summary["rejected_high"]
    assert interval == pytest.approx((beta.ppf(0.025, 12, 89), beta.ppf(0.975, 13, 88)))


def test_all_constant_weights_are_no_error() -> None:
    dump = small_dump(np.ones((5, 1, 1, 2)), [0, 0, 1, 1, 2])
    summary = dip_summary(dip_tests(dump), 2)
    assert summary["constant"] == 2
    assert all(summary[key] is None for key in ("rejected_share", "rejected_low", "chance_p_value"))
    assert class_effect(dump)["p_value"] is None


def test_dip_test_needs_four_images() -> None:
    with pytest.raises(ValueError, match="3 images are too few"):
        dip_tests(small_dump(np.random.default_rng(0).random((3, 1, 1, 2)), [0] * 3))


def test_planted_modes_are_found_and_bell_shaped_weights_are_not_taken_for_them() -> None:
    for seed in range(5):
        modal = dip_summary(dip_tests(planted_dump(seed, modes=True)), 60)
        assert modal["rejected"] == modal["rejected_benjamini_hochberg"] == 20  # a third of the edges, both operations
        assert modal["chance_p_value"] < 1e-6
        plain = dip_summary(dip_tests(planted_dump(seed)), 60)
        assert plain["chance_p_value"] > 0.05
        assert plain["rejected_benjamini_hochberg"] == 0


def test_weights_by_hand() -> None:
    # a pair of edges, one with all of it 3/4 and one with 1/2 of its weight on the first operation
    p = np.array([[[0.9, 0.3], [0.4, 0.4]], [[0.9, 0.3], [0.2, 0.2]]])[:, None]
    table = weights(small_dump(p, [0, 1])).set_index("operation")
    assert table.loc["none", "share"] == pytest.approx((0.75 + 0.5) / 2)
    assert table.loc["skip_connect", "share"] == pytest.approx((0.25 + 0.5) / 2)
    assert table.loc["none", "weight"] == pytest.approx((0.9 + 0.3) / 2)
    assert table.loc["none", "std"] == pytest.approx((0 + 0.1) / 2)
    assert table.loc["none", "uniform"] == pytest.approx(0.5)


def test_weights_count_only_edges_that_offer_the_operation() -> None:
    p = np.array([[[0.6, 0.4], [1.0, 0.0]]])[:, None]
    offered = np.array([[[True, True], [True, False]]])
    table = weights(small_dump(p, [0], offered)).set_index("operation")
    assert table.loc["skip_connect", ["edges", "share", "uniform"]].tolist() == pytest.approx([1, 0.4, 0.5])
    assert table.loc["none", ["edges", "share", "uniform"]].tolist() == pytest.approx([2, 0.8, 0.75])
