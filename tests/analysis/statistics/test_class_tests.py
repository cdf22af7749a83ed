"""Tests of classes: found where an effect was planted, rarely elsewhere."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from made_up_dumps import ANIMALS, GROUPS, planted_dump, small_dump

from midas.analysis.dumps import Dump
from midas.analysis.statistics.class_tests import class_effect, group_test
from midas.analysis.statistics.similarity import similarity


def test_class_effect_equals_the_sums_of_squares_of_pandas() -> None:
    dump = planted_dump(0, classes=0.3)
    dump.labels[:60] = 0  # classes of different sizes
    frame = pd.DataFrame(dump.p.reshape(len(dump.p), -1).astype(np.float64))
    within = ((frame - frame.groupby(dump.labels).transform("mean")) ** 2).sum().sum()
    found = class_effect(dump, permutations=9)
    assert found["eta_squared"] == pytest.approx(1 - within / ((frame - frame.mean()) ** 2).sum().sum(), rel=1e-5)
    assert found["expected_by_chance"] == pytest.approx(9 / 299)
    assert (found["permutations"], found["p_value"]) == (9, 0.1)


def test_class_effect_leaves_out_weights_that_are_not_offered() -> None:
    labels = [0, 0, 1, 1]
    p = np.array([[0.1, 0.0], [0.2, 0.0], [0.1, 1.0], [0.2, 1.0]])[:, None, None, :]
    assert class_effect(small_dump(p, labels))["eta_squared"] > 0.9
    assert class_effect(small_dump(p, labels, np.array([[[True, False]]])))["eta_squared"] == pytest.approx(0, abs=1e-6)


def test_class_effect_is_found_where_it_was_planted_and_rarely_elsewhere() -> None:
    assert all(class_effect(planted_dump(seed, classes=0.2))["p_value"] == 1 / 201 for seed in range(5))
    by_chance = [class_effect(planted_dump(seed), permutations=39)["p_value"] for seed in range(40)]
    # at most 6 of 40 with probability 0.997 if each is below 0.05 with probability 0.05
    assert sum(p <= 0.05 for p in by_chance) <= 6
    assert 0.3 < np.mean(by_chance) < 0.7


def similarity_matrix(dump: Dump) -> pd.DataFrame:
    table = similarity(dump)
    return table.pivot(index="class_a", columns="class_b", values="cosine_centred")


def test_groups_are_found_where_they_were_planted_and_rarely_elsewhere() -> None:
    planted = [group_test(similarity_matrix(planted_dump(seed, groups=0.3)), GROUPS) for seed in range(5)]
    assert all(test["exact"] and test["permutations"] == 210 and test["p_value"] == 1 / 210 for test in planted)
    # classes with patterns of their own, which no group shares, and none at all
    for strength in (0.0, 0.5):
        tests = [group_test(similarity_matrix(planted_dump(seed, classes=strength)), GROUPS) for seed in range(40)]
        assert sum(test["p_value"] <= 0.05 for test in tests) <= 6


def test_group_test_equals_all_permutations_by_brute_force() -> None:
    draw = np.random.default_rng(3)
    names = list("abcdef")
    values = draw.normal(size=(6, 6))
    matrix = pd.DataFrame(values + values.T, index=names, columns=names)
    groups = {"x": ["a", "b"], "y": ["e", "c", "d"]}  # f belongs to none

    def difference(order: tuple[str, ...]) -> float:
        kind = {name: index >= 2 for index, name in enumerate(order)}
        pairs = [(kind[a] == kind[b], matrix.loc[a, b]) for a in order for b in order if a < b]
        within, between = ([value for same, value in pairs if same is wanted] for wanted in (True, False))
        return float(np.mean(within) - np.mean(between))

    found = group_test(matrix, groups)
    observed = difference(("a", "b", "e", "c", "d"))
    every = [difference(order) for order in permutations("abcde")]
    assert found["difference"] == pytest.approx(observed)
    assert found["within"] - found["between"] == pytest.approx(observed)
    assert found["p_value"] == pytest.approx(np.mean([value >= observed - 1e-9 for value in every]))
    assert found["permutations"] == 10  # 5! / (2! 3!)


def test_many_classes_are_permuted_at_random() -> None:
    names = [f"{index:02d}" for index in range(30)]
    block = (np.arange(30) < 15).astype(float)
    matrix = pd.DataFrame(np.outer(block, block) + np.outer(1 - block, 1 - block), index=names, columns=names)
    found = group_test(matrix, {"first": names[:15], "second": names[15:]})
    assert (found["exact"], found["permutations"], found["p_value"]) == (False, 10_000, 1 / 10_001)
    assert found["difference"] == pytest.approx(1)


def test_groups_that_cannot_be_tested_give_no_number() -> None:
    matrix = similarity_matrix(planted_dump(0))
    for groups in ({"one": ANIMALS}, {"one": ["cat"], "two": ["ship"]}, {"one": ["elf"], "two": ["fay"]}):
        assert set(group_test(matrix, groups).values()) == {None}
    matrix.loc["cat", "dog"] = np.nan
    assert group_test(matrix, GROUPS)["p_value"] is None
