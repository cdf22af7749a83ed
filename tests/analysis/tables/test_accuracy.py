"""Tables 1, 2 and 4: accuracies, their spread over seeds and their differences equal the files behind them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_results import (
    with_config,
    write_metrics,
)
from made_up_tables import Rendered, cells, make_table, metric, own, row_of
from scipy import stats

from midas.analysis import literature
from midas.analysis.statistics.seeds import PERCENT, corrected, difference, holm, summarise
from midas.analysis.tables import robust as table_robust
from midas.plan.plan import Plan


def test_mean_spread_and_interval_equal_the_files(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(2)
    errors = [100 - accuracy for accuracy in metric(plan, "retrain/metrics.json", "test_accuracy")]
    row = own(numbers, dataset="digits", method="midas", quantity="test_error").iloc[0]
    mean, std = np.mean(errors), np.std(errors, ddof=1)
    assert row[["mean", "std", "best", "n"]].tolist() == pytest.approx([mean, std, min(errors), 2])
    ends = np.clip(stats.t.interval(0.95, 1, mean, std / 2**0.5), 0, 100)  # errors in percent
    assert row[["low", "high"]].tolist() == pytest.approx(ends)
    assert f"{mean:.2f} ± {std:.2f}" in row_of(text, "digits", "midas")
    assert row_of(text, "digits", "midas")[-1] == "40.5 ± 0.7"  # seconds of the two searches: 40 and 41
    assert "on a test's processor." in text


def test_random_cells_have_an_error_and_no_search(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(2)
    row = own(numbers, dataset="digits", method="random", quantity="search_seconds").iloc[0]
    assert row["missing"] == "random cells are not searched"
    accuracies = metric(plan, "retrain/metrics.json", "test_accuracy", method="random")
    shown = row_of(text, "digits", "random")
    assert shown[3].startswith(f"{100 - np.mean(accuracies):.2f} ± ")
    assert shown[-1] == "—ᵃ"
    assert "- ᵃ random cells are not searched." in text


def test_one_seed_has_no_spread_and_no_test(table: Callable[..., Rendered]) -> None:
    numbers, text, latex = table(2, "one seed")
    measured = own(numbers)
    assert measured[["std", "low", "high"]].isna().all(axis=None)
    error = own(numbers, dataset="digits", method="midas", quantity="test_error")["mean"].iloc[0]
    assert row_of(text, "digits", "midas")[3] == f"{error:.2f}ᵃ"
    assert rf"{error:.2f}$^{{a}}$" in latex
    assert "- ᵃ one seed: no spread." in text
    assert row_of(text, "digits", "midas - darts")[-1] == "fewer than three seeds: no test"


def welch(a: list[float], b: list[float]) -> tuple[float, float]:
    """The 95 % interval of Welch's test from its definition."""
    parts = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    return np.mean(a) - np.mean(b) - half, np.mean(a) - np.mean(b) + half


def test_difference_of_means_has_welchs_interval_and_a_verdict() -> None:
    draw = np.random.default_rng(1)
    first, near, far = draw.normal(3, 0.1, 4).tolist(), draw.normal(3, 0.3, 3).tolist(), draw.normal(5, 0.2, 4).tolist()
    for other, verdict in ((near, "not significant"), (far, "significant at 0.05")):
        found = difference(first, other)
        assert (found["low"], found["high"]) == pytest.approx(welch(first, other))
        assert (found["n"], found["n_other"], found["verdict"]) == (len(first), len(other), verdict)
        assert (found["p_value"] < 0.05) == (verdict != "not significant") == (found["low"] * found["high"] > 0)


def test_differences_without_variation_or_of_fewer_than_three_seeds_are_not_tested() -> None:
    for first, other in (([1.0], [2.0]), ([1.0, 1.1], [2.0, 2.1, 1.9])):
        found = difference(first, other)
        assert found["verdict"] == "fewer than three seeds: no test"
        assert found["mean"] == np.mean(first) - np.mean(other)
        assert "low" not in found
    assert difference([1.0] * 3, [2.0] * 3)["verdict"] == "no variation over seeds: no test"
    assert difference([1.0, 1.0, 1.0], [2.0, 2.1, 1.9])["verdict"] == "significant at 0.05"


def test_an_interval_ends_where_its_quantity_does() -> None:
    free, bound = summarise([1.0, 80.0, 99.0]), summarise([1.0, 80.0, 99.0], within=PERCENT)
    assert free["low"] < 0
    assert free["high"] > 100
    assert (bound["low"], bound["high"]) == PERCENT
    assert summarise([90.0, 90.1, 90.2], within=PERCENT) == summarise([90.0, 90.1, 90.2])


def test_p_values_of_one_table_are_adjusted_by_holm() -> None:
    p_values = np.array([0.01, 0.04, 0.03, np.nan, 0.005])  # the example of R's p.adjust, with one that isn't there
    np.testing.assert_allclose(holm(p_values), [0.03, 0.06, 0.06, np.nan, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert len(holm(np.array([]))) == 0


def test_verdicts_follow_from_all_tests_of_a_table() -> None:
    first = pd.DataFrame({"p_value": [0.01, 0.04], "verdict": ["significant at 0.05"] * 2})
    none = pd.DataFrame({"mean": [1.0]})
    other = pd.DataFrame({"p_value": [np.nan, 0.2], "verdict": ["one", "not significant"]})
    a, b, c = corrected([first, none, other])
    np.testing.assert_allclose(a["p_holm"], [0.03, 0.08])
    assert list(a["verdict"]) == ["significant at 0.05", "not significant"]
    assert "p_holm" not in b
    assert list(c["verdict"]) == ["one", "not significant"]
    assert corrected([none])[0].equals(none)


def test_the_first_attention_method_is_compared_with_each_other_one(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(4)
    compared = numbers[numbers["quantity"] == "difference"]
    pairs = [(space, f"midas - {other}") for space in ("s1", "s2", "s3") for other in ("darts", "random")]
    assert list(zip(compared["space"], compared["group"], strict=True)) == pairs  # S4 has no attention method
    values = [metric(plan, "retrain/metrics.json", "test_accuracy", "s1", method=m) for m in ("midas", "random")]
    difference = np.mean(values[1]) - np.mean(values[0])  # of errors
    assert row_of(text, "s1", "digits", "midas - random")[4].startswith(f"{difference:+.2f}")
    assert "negative: the first is better" in text


def test_accuracies_say_that_a_positive_difference_is_good(plan: Plan, tmp_path: Path) -> None:
    for changes in ({}, {"nas_bench_201_table": "benchmark.csv"}):
        assert "positive: the first is better" in make_table(with_config(plan, **changes), 1, tmp_path)[1]


def test_trained_nas_bench_201_cells_say_so(table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(1)
    assert set(own(numbers)["quantity"]) == {"test_accuracy", "params_m", "difference"}
    assert "trained from scratch (no table of the benchmark was given)" in text
    assert "they don't compare" in text
    assert "optimum" not in text


def test_looked_up_nas_bench_201_cells_equal_the_files(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(1, "looked up")
    for method in ("darts", "random"):
        found = metric(plan, "lookup/metrics.json", "cell", "nas_bench_201", method=method)
        values = [cell["c100_test_acc_200"] for cell in found]  # type: ignore[index]
        row = own(numbers, method=method, quantity="c100_test_acc_200").iloc[0]
        assert row[["mean", "best"]].tolist() == pytest.approx([np.mean(values), max(values)])
    assert row_of(text, "benchmark", "all cells")[2:5] == ["not searched", "15625", "80.00 ± 9.00"]
    assert row_of(text, "benchmark", "optimum")[4] == "94.00"
    assert row_of(text, "this project", "random")[2] == "not searched"
    assert len([row for row in cells(text) if row[-2:-1] and row[0] == "digits"]) == 6  # 2 methods on 3 test accuracies


def test_widths_and_statistics_stand_in_every_row_of_table_4(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(4)
    width = "3x8 (S1 S2 S4), 3x4 (S3)"
    errors = [100 - accuracy for accuracy in metric(plan, "retrain/metrics.json", "test_accuracy", "s3")]
    mean = f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
    assert row_of(text, "midas", "mean of 2")[2:] == [width, *row_of(text, "midas", "mean of 2")[3:5], mean, "—ᵃ"]
    assert row_of(text, "midas", "best of 2")[5:] == [f"{min(errors):.2f}", "—ᵃ"]
    assert "- ᵃ not a method of that experiment." in text
    assert row_of(text, "DARTS", "mean of 3 searches")[2] == "20x36 (S1 S3), 20x16 (S2 S4)¶"
    assert row_of(text, "DARTS+PT")[1:] == ["best of the searches", "20x36", "3.50", "2.79", "2.49", "2.64"]
    assert row_of(text, "EM-DARTS")[1:3] == ["single value", "not stated"]
    published = numbers[numbers["status"].isin(literature.STATUSES)]
    assert set(published["dataset"]) == {"cifar10"}
    assert published[["statistic", "network"]].notna().all(axis=None)
    kinds = published.drop_duplicates(["method", "statistic"])[["network", "statistic"]]
    assert len(list(groupby(kinds.itertuples(index=False)))) == len(kinds.drop_duplicates())  # like beside like


def test_a_space_without_an_experiment_says_so(plan: Plan, tmp_path: Path) -> None:
    few = [e for e in plan.config.experiments if e.space in ("s1", "s2")]
    text = make_table(with_config(plan, experiments=few), 4, tmp_path)[1]
    assert row_of(text, "midas", "mean of 2")[-2:] == ["—ᵃ", "—ᵃ"]
    assert row_of(text, "midas", "mean of 2")[2] == "3x8"
    assert "- ᵃ not an experiment of this size." in text


def test_published_errors_of_every_searched_data_set_are_shown(plan: Plan, tmp_path: Path) -> None:
    renamed = [e.model_copy(update={"dataset": "svhn"}) if e.space == "s1" else e for e in plan.config.experiments]
    changed = with_config(plan, experiments=renamed)
    for method in ("midas", "darts", "random"):
        for seed in plan.config.seeds:
            path = changed.folder("s1", "svhn", method, seed) / "retrain/metrics.json"
            write_metrics(path, {"test_accuracy": 97.0, "params": 1}, 1.0)
    text = make_table(changed, 4, tmp_path)[1]
    assert "**Published numbers on SVHN" in text
    assert "**Published numbers on CIFAR-10," not in text
    assert row_of(text, "darts", "DARTS (8x16)") == [
        *("darts", "DARTS (8x16)", "S1 error", "3.00 ± 0.00", "9.88 ± 5.50‡"),
        *("-6.88", "fewer than three seeds: no test"),
    ]
    assert "darts: settings (theirs) other than in DARTS-1st's search: not stated." in text


def test_networks_are_named_once_or_space_by_space() -> None:
    assert table_robust._networks({"s1": "20x36", "s2": "20x36"}) == "20x36"
    assert table_robust._networks({"s1": "20x36", "s2": "", "s4": "20x36"}) == "20x36 (S1 S4), not stated (S2)"
