"""Statistics of dumps: by hand, against other implementations, and with structure that was planted or isn't there."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from diptest import diptest
from diptest.consts import Consts
from matplotlib.text import Text
from scipy.stats import beta, binom
from test_analysis import make_config, write_results

from midas.analysis.dumps import Dump
from midas.analysis.figures.dip import dip
from midas.analysis.figures.similarity import class_similarity
from midas.analysis.statistics.class_tests import class_effect, group_test
from midas.analysis.statistics.dip import MOST_TABULATED, dip_summary, dip_tests
from midas.analysis.statistics.similarity import similarity
from midas.analysis.statistics.weights import weights
from midas.analysis.statistics.writing import statistics
from midas.config.keys import Config
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

ANIMALS, VEHICLES = ["bird", "cat", "deer", "dog", "frog", "horse"], ["car", "plane", "ship", "truck"]
GROUPS = {"animals": ANIMALS, "vehicles": VEHICLES}


def small_dump(p: np.ndarray, labels: list[int], offered: np.ndarray | None = None) -> Dump:
    _, cells, edges, operations = p.shape
    shape = cells, edges, operations
    return Dump(
        p=p.astype(np.float32),
        labels=np.array(labels),
        kinds=["cell"] * cells,
        operations=["none", "skip_connect"][:operations],
        edges=np.array([[0, edge + 1] for edge in range(edges)]),
        offered=np.ones(shape, bool) if offered is None else offered,
        classes=["cat", "dog", "ship"],
    )


def planted_dump(seed: int, modes: bool = False, classes: float = 0.0, groups: float = 0.0, images: int = 300) -> Dump:
    """Weights of ten classes, softmax over two operations per edge.

    Args:
        seed: of all draws.
        modes: whether a third of the edges has two modes, far apart.
        classes: strength of each class's own pattern.
        groups: strength of the pattern that the classes of a group share.
        images: how many.
    """
    draw = np.random.default_rng(seed)
    shape = 2, 15, 2
    labels = np.arange(images) % 10
    shared = groups * draw.normal(size=(2, *shape))[(np.arange(10) >= 6).astype(int)]
    logits = draw.normal(size=shape) + (shared + classes * draw.normal(size=(10, *shape)))[labels]
    weights = np.exp(logits + 0.5 * draw.normal(size=(images, *shape)))
    p = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    if modes:
        first = draw.choice([0.3, 0.7], size=(images, 2, 5)) + 0.05 * draw.normal(size=(images, 2, 5))
        p[:, :, ::3] = np.stack([first, 1 - first], axis=-1)
    edges = np.array([[0, edge + 1] for edge in range(15)])
    names = [*ANIMALS, *VEHICLES]
    return Dump(p, labels, ["cell"] * 2, ["none", "skip_connect"], edges, np.ones(shape, bool), names)


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


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = make_config(tmp_path_factory.mktemp("statistics"))
    write_results(Plan(config))
    return config


def run(config: Config, folder: Path, **analysis: Any) -> dict[str, Any]:
    assert config.analysis is not None
    changed = config.model_copy(update={"analysis": config.analysis.model_copy(update=analysis)})
    statistics(PresentRun(config=changed), folder)
    return json.loads((folder / "metrics.json").read_text())


def test_statistics_writes_every_method_and_seed(config: Config, tmp_path: Path) -> None:
    metrics = run(config, tmp_path)
    weights = pd.read_csv(tmp_path / "weights.csv")
    assert set(zip(weights["method"], weights["seed"], strict=True)) == {
        (m, s) for m in ("midas", "no_patch") for s in (0, 1)
    }
    assert np.allclose(weights.groupby(["method", "seed", "cell"])["share"].sum(), 1)
    dip = pd.read_csv(tmp_path / "dip.csv")
    assert [summary["tested"] for summary in metrics["dip"]] == dip.groupby("seed").size().tolist() == [4 * 14 * 7] * 2
    rejected = (dip["p_value"] < 0.05).groupby(dip["seed"]).sum()
    assert [summary["rejected"] for summary in metrics["dip"]] == rejected.tolist()
    assert [summary["images"] for summary in metrics["dip"]] == [400, 400]
    assert len(pd.read_csv(tmp_path / "similarity.csv")) == 2 * 10 * 10
    assert [effect["seed"] for effect in metrics["class_effect"]] == [0, 1]
    assert metrics["groups"] is None


def test_groups_are_tested_for_each_seed_and_for_their_mean(config: Config, tmp_path: Path) -> None:
    groups = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"]}
    found = run(config, tmp_path, groups=groups)["groups"]
    table = pd.read_csv(tmp_path / "similarity.csv", dtype={"class_a": str, "class_b": str})
    keys = ("within", "between", "difference", "p_value")
    for row in found["seeds"]:
        one = table[table["seed"] == row["seed"]].pivot(index="class_a", columns="class_b", values="cosine_centred")
        alone = group_test(one, groups)
        assert [row[key] for key in keys] == pytest.approx([alone[key] for key in keys])
    assert found["names"] == groups
    assert found["difference"] == pytest.approx(np.mean([row["difference"] for row in found["seeds"]]))
    assert (found["permutations"], found["exact"]) == (35, True)  # 7! / (4! 3!)


def test_figures_3_and_4_say_what_the_tests_found(config: Config) -> None:
    assert config.analysis is not None
    groups = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"]}
    plan = Plan(config.model_copy(update={"analysis": config.analysis.model_copy(update={"groups": groups})}))
    statistics(PresentRun(config=plan.config), plan.root / "analysis")
    metrics = json.loads((plan.root / "analysis/metrics.json").read_text())
    said = "\n".join(text.get_text() for text in dip(plan).findobj(Text))
    rejected = sum(row["rejected"] for row in metrics["dip"])
    assert f"rejected: {rejected} of 784\nexpected by chance: at most 39\nafter Benjamini-Hochberg: " in said
    assert "(400 images, 2 searches)" in said
    assert "the table ends there" not in said
    metrics["dip"][0]["images"] = 100_000
    (plan.root / "analysis/metrics.json").write_text(json.dumps(metrics))
    said = "\n".join(text.get_text() for text in dip(plan).findobj(Text))
    assert "(100,000 images, 2 searches)\n(p-values of 72,000 images: the table ends there)" in said
    figure = class_similarity(plan)
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert "round / straight: within" in said
    assert f"= {metrics['groups']['difference']:.2f}" in said
    assert f"permutation p = {metrics['groups']['p_value']:.3f}" in said
    assert ("not significant" in said) == (metrics["groups"]["p_value"] >= 0.05)
    assert f"to {100 * max(row['eta_squared'] for row in metrics['class_effect']):.1f} % of the variance" in said
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert order == [*groups["round"], *groups["straight"], "2", "3", "5"]


@pytest.mark.parametrize("content", [{}, {"dip": [], "class_effect": [{}]}])
def test_figures_of_metrics_without_tests_name_the_file(config: Config, content: dict[str, Any]) -> None:
    plan = Plan(config)
    statistics(PresentRun(config=config), plan.root / "analysis")
    (plan.root / "analysis/metrics.json").write_text(json.dumps(content))
    for draw in (dip, class_similarity):
        with pytest.raises(ValueError, match=r"analysis/metrics\.json: holds no "):
            draw(plan)


def test_statistics_needs_the_key_analysis(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="analysis: missing"):
        statistics(PresentRun(config=make_config(tmp_path, analysis=None)), tmp_path)
