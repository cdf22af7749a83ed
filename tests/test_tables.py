"""Tables 1 to 6: equal to the files behind them, honest about what is missing, and readable as markdown and LaTeX."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_analysis import (
    DARTS_CELL,
    NB201_CELL,
    NOTE,
    make_config,
    with_config,
    write_cost,
    write_metrics,
    write_results,
)

from midas.analysis import literature
from midas.analysis.statistics.seeds import difference
from midas.analysis.tables import ablation as table_ablation
from midas.analysis.tables import making as tables
from midas.analysis.tables import robust as table_robust
from midas.analysis.tables import wording
from midas.analysis.tables.presentation import ALWAYS, LETTERS, TIDY
from midas.config.settings import Method, Retrain
from midas.methods.decoding import random_genotype
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.spaces import SPACES, get_space
from midas.spaces.genotype import parse

SHARED = Path(__file__).parent.parent.parent / "shared/literature"
NUMBERS = [1, 2, 3, 4, 5, 6]
METHODS = {
    "midas": {},
    "darts": {"weights": "static"},
    "random": {"weights": "random"},
    "no_patch": {"patch_size": None},
    "frozen": {"projections": "frozen", "patch_size": 4, "scale": 2.0},
    "per_op_keys": {"keys": "per_operation", "mixing": "patch", "distribution": "node"},
}


def full_config(root: Path) -> Plan:
    """Every table, with every kind of method."""
    small = {"channels": 8, "cells": 3, "epochs": 2, "auxiliary": 0}
    protocol: dict[str, Any] = {"search": {"cells": 3, "epochs": 6}, "retrain": small}
    evaluated = ["midas", "darts", "random"]
    common = {"dataset": "digits", "methods": evaluated, **protocol}
    transfer = {"dataset": "digit_photos", "methods": ["midas", "darts"], "epochs": 3, "warmup_epochs": 1}
    cost = {"baseline": "darts", "methods": ["midas", "no_patch"], "resolutions": [16, 32], "patch_sizes": [2, 4]}
    experiments = [
        {"space": "nas_bench_201", **common, "ablation": ["midas", "no_patch"]},
        {"space": "darts", **common, "ablation": [*METHODS], "transfer": transfer, "cost": cost},
        {"space": "darts", **common, "dataset": "digit_pairs"},
        {"space": "s1", **common},
        {"space": "s2", **common},
        {"space": "s3", **common, "retrain": {**small, "channels": 4}},
        {"space": "s4", **common, "methods": ["darts"]},
    ]
    return Plan(make_config(root, methods=METHODS, experiments=experiments))


VARIANTS: dict[str, dict[str, Any]] = {
    "several seeds": {},
    "one seed": {"seeds": [1]},
    "looked up": {"nas_bench_201_table": "benchmark.csv"},
    "paper": {"paper_protocol": True},
    "signs": {"note": NOTE},
}
Rendered = tuple[pd.DataFrame, str, str]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = full_config(tmp_path_factory.mktemp("tables"))
    write_results(plan, images=60)
    rows = [
        {"method": method, "seed": seed, "conv_spread": 0.01 * place + 0.1 * seed, "tested": 40, "rejected": 4 * seed}
        | {"group_difference": 0.2 - place, "group_p_value": 0.04 if seed else 0.06}
        for place, method in enumerate(plan.attending())
        for seed in plan.config.seeds
    ]
    (plan.root / "analysis").mkdir()
    pd.DataFrame(rows).to_csv(plan.root / "analysis/variants.csv", index=False)
    return plan


@pytest.fixture(scope="module")
def table(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Rendered]:
    """Makes a table of the made-up results, each once."""

    @cache
    def render(number: int, variant: str = "several seeds") -> Rendered:
        return make_table(with_config(plan, **VARIANTS[variant]), number, tmp_path_factory.mktemp("table"))

    return render


def make_table(plan: Plan, number: int, folder: Path) -> Rendered:
    """The csv, the markdown with plain signs for times and minus, and the LaTeX."""
    tables.make(PresentRun(number=number, config=plan.config), folder)
    text, latex = ((folder / f"table_{number}.{suffix}").read_text() for suffix in ("md", "tex"))
    text = text.replace("\N{MULTIPLICATION SIGN}", "x").replace("\N{MINUS SIGN}", "-")
    return pd.read_csv(folder / f"table_{number}.csv"), text, latex


def own(numbers: pd.DataFrame, **chosen: str) -> pd.DataFrame:
    """This project's rows with some values."""
    for key, value in {"status": "measured", **chosen}.items():
        numbers = numbers[numbers[key] == value]
    return numbers


def cells(text: str) -> list[list[str]]:
    """All rows of a markdown document's tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def row_of(text: str, *names: str) -> list[str]:
    """The one row that starts with these names."""
    found = [row for row in cells(text) if row[: len(names)] == list(names)]
    assert len(found) == 1, f"{names}: {found}"
    return found[0]


def metric(
    plan: Plan, file: str, key: str, space: str = "darts", dataset: str = "digits", method: str = "midas"
) -> list[float]:
    folders = [plan.folder(space, dataset, method, seed) for seed in plan.config.seeds]
    return [json.loads((folder / file).read_text())[key] for folder in folders]


def test_this_configuration_has_every_table(plan: Plan) -> None:
    assert plan.tables() == NUMBERS == sorted(tables.TABLES)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_no_number_is_missing_without_a_reason(table: Callable[..., Rendered], number: int, variant: str) -> None:
    numbers, text, _ = table(number, variant)
    assert set(numbers.columns) <= set(TIDY)
    assert set(numbers.columns) >= ALWAYS
    empty = own(numbers)[own(numbers)["mean"].isna() & own(numbers)["best"].isna()]
    assert empty.empty or empty["missing"].notna().all()
    body, notes = text.rsplit("|\n", 1)
    used = set(re.findall(f"[{LETTERS}]", body))
    assert [line[2] for line in notes.splitlines() if line[2:3] in set(LETTERS)] == sorted(used, key=LETTERS.index)
    assert "nan" not in re.sub("[a-z]*nan[a-z]+", "", body)
    if re.search(r"— *\|", body):
        assert "- — in published rows: not stated by the source." in notes
    assert all(cell for row in cells(text) for cell in row)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_latex_is_balanced_and_escaped(table: Callable[..., Rendered], number: int, variant: str) -> None:
    _, _, latex = table(number, variant)
    assert latex.isascii()
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert latex.count(r"\begingroup") == latex.count(r"\endgroup")
    open_ones: list[str] = []
    for command, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if command == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert not open_ones
    for layout, body in re.findall(r"\\begin\{longtable\}\{([lr]+)\}(.*?)\\end\{longtable\}", latex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(layout) - 1}
    assert len(re.findall(r"(?<!\\)\$", latex)) % 2 == 0
    assert not re.search(r"(?<!\\)[%#~]", latex)
    assert "_" not in re.sub(r"\\_", "", latex)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_table_says_its_size(table: Callable[..., Rendered], number: int) -> None:
    _, text, latex = table(number)
    for form in (text, latex):
        assert "Size demo (made-up numbers, for tests only" in form
        assert "Not the paper's protocol" in form


@pytest.mark.parametrize("number", NUMBERS)
def test_a_table_without_its_files_names_one(tmp_path: Path, number: int) -> None:
    plan = full_config(tmp_path)
    with pytest.raises(ValueError, match=r"(metrics\.json: not a readable metrics|history\.csv: not a readable table)"):
        tables.make(PresentRun(number=number, config=plan.config), tmp_path)


def test_a_table_that_the_configuration_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table 6 does not exist at size demo; allowed: \[1, 2, 5\]"):
        tables.make(PresentRun(number=6, config=make_config(tmp_path)), tmp_path)


def test_a_number_that_is_none_names_file_and_key(tmp_path: Path) -> None:
    plan = full_config(tmp_path)
    write_results(plan, images=5)
    path = plan.folder("darts", "digits", "midas", 1) / "retrain/metrics.json"
    write_metrics(path, {"test_accuracy": "high", "params": 1}, 1.0)
    with pytest.raises(ValueError, match=r"midas/seed1/retrain/metrics\.json: test_accuracy is 'high', not a number"):
        tables.make(PresentRun(number=2, config=plan.config), tmp_path)


def test_mean_spread_and_interval_equal_the_files(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(2)
    errors = [100 - accuracy for accuracy in metric(plan, "retrain/metrics.json", "test_accuracy")]
    row = own(numbers, dataset="digits", method="midas", quantity="test_error").iloc[0]
    mean, std = np.mean(errors), np.std(errors, ddof=1)
    assert row[["mean", "std", "best", "n"]].tolist() == pytest.approx([mean, std, min(errors), 2])
    assert row[["low", "high"]].tolist() == pytest.approx(stats.t.interval(0.95, 1, mean, std / 2**0.5))
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
    assert row_of(text, "digits", "midas - darts")[-1] == "one seed: no test"


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


def test_differences_without_variation_or_with_one_seed_are_not_tested() -> None:
    assert difference([1.0], [2.0])["verdict"] == "one seed: no test"
    assert difference([1.0, 1.0], [2.0, 2.0])["verdict"] == "no variation over seeds: no test"
    assert difference([1.0, 1.0, 1.0], [2.0, 2.1, 1.9])["verdict"] == "significant at 0.05"


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


def test_unconfirmed_literature_is_marked(table: Callable[..., Rendered]) -> None:
    for number in (2, 3, 4):
        numbers, text, latex = table(number)
        unconfirmed = numbers[numbers["status"] == "from_memory"]
        assert len(unconfirmed)
        for name in set(unconfirmed["method"]):
            assert f"| *{name}†*" in text
            assert rf"\textit{{{name}$^\dagger$}}" in latex
        assert {row[0].strip("*†§") for row in cells(text) if row[0].startswith("*")} == set(unconfirmed["method"])
        assert "- † not confirmed" in text


def test_literature_prints_what_it_holds(table: Callable[..., Rendered]) -> None:
    text = table(2)[1]
    assert row_of(text, "DARTS-2nd")[1:] == ["2.76 ± 0.09", "—", "17.54‡", "—", "3.3", "1.0"]
    independent = ["2.81 ± 0.14", "—", "17.49‡", "—", "3.3 ± 0.25", "0.3"]
    assert row_of(text, "P-DARTS (4 independent searches)§")[1:] == independent
    assert row_of(text, "MIDAS")[1:] == ["2.58‡", "—", "16.62‡", "—", "—", "—"]
    assert "they don't compare with the rows above" in text
    text = table(3)[1]
    assert row_of(text, "DARTS-2nd")[1:] == ["transfer from CIFAR-10", "26.7", "8.7", "4.7", "574", "4.0"]
    assert row_of(text, "PC-DARTS (ImageNet search)")[1] == "searched on ImageNet"


def test_published_rows_of_the_papers_protocol_are_compared(table: Callable[..., Rendered]) -> None:
    for number in (2, 3, 4):
        text = table(number, "paper")[1]
        assert "they don't compare" not in text


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


def test_transfer_table_equals_the_files(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(3)
    top1 = [100 - value for value in metric(plan, "transfer/metrics.json", "test_top1")]
    row = own(numbers, method="midas", quantity="top1_error").iloc[0]
    assert row[["mean", "best"]].tolist() == pytest.approx([np.mean(top1), min(top1)])
    shown = row_of(text, "midas")
    assert shown[5:] == ["4.700 ± 0.000", "600.0 ± 14.1", "1 of 2", "2.00 ± 0.00"]
    assert "trained on digit_photos (224x224 pixels, 14x48" in text
    assert "half of torch.utils.flop_counter" in text


def test_transfer_table_looks_at_its_own_seeds(plan: Plan, tmp_path: Path) -> None:
    experiments = [
        e.model_copy(update={"transfer": e.transfer.model_copy(update={"seeds": [1]})}) if e.transfer else e
        for e in plan.config.experiments
    ]
    text = make_table(with_config(plan, experiments=experiments), 3, tmp_path)[1]
    assert row_of(text, "midas")[1] == "1"
    assert row_of(text, "midas")[7] == "no"
    assert row_of(text, "darts", "digits", "midas - darts")[-1] == "one seed: no test"


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


def test_networks_are_named_once_or_space_by_space() -> None:
    assert table_robust._networks({"s1": "20x36", "s2": "20x36"}) == "20x36"
    assert table_robust._networks({"s1": "20x36", "s2": "", "s4": "20x36"}) == "20x36 (S1 S4), not stated (S2)"


def test_ablation_shows_each_methods_choices(table: Callable[..., Rendered]) -> None:
    text = table(5)[1]
    block = text.split("**darts on digits")[1].split("**Attention methods")[0]
    assert cells(block)[0][:8] == ["Method", "Weights", "PS", "Softmax over", "W_K", "Mixing", "W_Q, W_K", "scale"]
    rows = {row[0]: row[1:8] for row in cells(block)[2:]}
    assert list(rows) == list(METHODS)
    assert rows["midas"] == ["attention", "8", "pairs", "shared", "image", "learned", "1/sqrt(d)"]
    assert rows["no_patch"][1] == "none"
    assert rows["frozen"] == ["attention", "4", "pairs", "shared", "image", "frozen", "2.0"]
    assert rows["per_op_keys"] == ["attention", "8", "node", "per operation", "patch", "learned", "1/sqrt(d)"]
    assert rows["darts"] == ["static", "n/a", "edge", "n/a", "n/a", "n/a", "n/a"]
    assert rows["random"] == ["random", *["n/a"] * 6]
    # NAS-Bench-201 keeps all edges, so there are no pairs
    assert row_of(text.split("**darts on digits")[0], "midas")[3] == "edge"


def test_methods_that_were_offered_none_are_told_apart(plan: Plan, tmp_path: Path) -> None:
    assert "offer_none" not in make_table(plan, 5, tmp_path)[1]
    assert "offer_none" not in pd.read_csv(tmp_path / "table_5.csv")
    methods = plan.config.methods | {"darts": Method(weights="static", offer_none=True, decode_none=True)}
    numbers, text, _ = make_table(with_config(plan, methods=methods), 5, tmp_path)
    header, _, *rows = cells(text.split("**darts on digits")[1].split("**Attention methods")[0])
    place = header.index("offer_none")
    assert {row[0]: row[place] for row in rows} == {name: str(name == "darts") for name in METHODS}
    assert set(own(numbers, space="darts", method="darts")["offer_none"]) == {True}
    shared, free = table_ablation.by_chance(SPACES["darts"].with_none(), True)
    chance = f'Cells drawn at random (darts, with "none"): agreement {shared:.2f}, free {free:.1f} on average.'
    assert chance in text


@pytest.mark.parametrize("number", [2, 3])
def test_published_darts_had_one_operation_more(plan: Plan, tmp_path: Path, number: int) -> None:
    note = (
        "- darts: first-order DARTS over the 7 operations of this space. The published rows of DARTS were searched with"
    )
    assert make_table(plan, number, tmp_path)[1].count(note) == 1
    methods = plan.config.methods | {"darts": Method(weights="static", offer_none=True)}
    assert "first-order DARTS over" not in make_table(with_config(plan, methods=methods), number, tmp_path)[1]


@pytest.mark.parametrize("number", [1, 5])
def test_tables_of_single_cells_say_that_equal_ones_differ(plan: Plan, tmp_path: Path, number: int) -> None:
    looked_up = with_config(plan, **VARIANTS["looked up"])
    assert f"- {wording.same_function_note()}" in make_table(looked_up, number, tmp_path)[1]
    assert wording.same_function_note() not in make_table(plan, number, tmp_path)[1]


def test_ablation_equals_the_files(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers = table(5)[0]
    rows = own(numbers, space="darts", method="no_patch").set_index("quantity")
    spreads = []
    for seed in plan.config.seeds:
        with np.load(plan.folder("darts", "digits", "no_patch", seed) / "search/arch.npz") as dump:
            spreads.append(dump["p"].astype(np.float64).std(0).mean())
    assert rows.loc["p_std_over_images", "mean"] == pytest.approx(np.mean(spreads))
    assert rows.loc["entropy", ["mean", "std"]].tolist() == pytest.approx([2 - 30 / 100, 0])
    assert rows.loc["supernet_valid_accuracy", "mean"] == 80.5
    assert rows.loc["agreement_between_seeds", "mean"] == 1  # all seeds have the same made-up cell
    assert rows.loc["parameter_free", "mean"] == 3  # of DARTS_CELL's eight operations
    assert rows.loc["test_error", "missing"] == "not evaluated: named in `ablation` alone"
    assert own(numbers, space="darts", method="midas", quantity="test_error")["mean"].notna().all()


def test_ablation_says_why_a_static_or_random_method_lacks_a_number(table: Callable[..., Rendered]) -> None:
    numbers = own(table(5)[0], space="darts").set_index(["method", "quantity"])["missing"]
    assert numbers["darts", "p_std_over_images"] == "the weights are the same for all images"
    for quantity in ("supernet_valid_accuracy", "entropy", "p_std_over_images", "search_seconds"):
        assert numbers["random", quantity] == "random cells are not searched"
    assert pd.isna(numbers["random", "agreement_between_seeds"])


def test_ablation_looks_cells_up_where_there_is_a_table(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers = table(5, "looked up")[0]
    found = metric(plan, "lookup/metrics.json", "cell", "nas_bench_201", method="no_patch")
    values = [cell["c10_test_acc_200"] for cell in found]  # type: ignore[index]
    row = own(numbers, space="nas_bench_201", method="no_patch", quantity="c10_test_acc_200")
    assert row["mean"].tolist() == pytest.approx([np.mean(values)])


def test_ablation_of_one_seed_has_no_pair(plan: Plan, tmp_path: Path) -> None:
    numbers = make_table(with_config(plan, seeds=[0]), 5, tmp_path)[0]
    reasons = own(numbers, quantity="agreement_between_seeds")["missing"]
    assert set(reasons) == {"one seed: no pair to compare"}


def test_ablation_sets_its_methods_against_the_claims(plan: Plan, table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(5)
    block = text.split("**Attention methods against the claims on searches (darts on digits)**")[1]
    assert cells(block)[0] == ["Method", "n", "C5: spread", "C6: rejected (%)", "C7: cosine", "significant"]
    assert [row[0] for row in cells(block)[2:]] == plan.attending() == ["midas", "no_patch", "frozen", "per_op_keys"]
    seeds = plan.config.seeds
    rows = own(numbers, space="darts", method="no_patch").set_index("quantity")
    assert rows.loc["conv_spread", "mean"] == pytest.approx(np.mean([0.01 + 0.1 * seed for seed in seeds]))
    assert rows.loc["dip_rejected", "mean"] == pytest.approx(np.mean([10 * seed for seed in seeds]))
    assert rows.loc["group_difference", "mean"] == pytest.approx(-0.8)
    assert row_of(block, "no_patch")[-1] == f"{sum(seed > 0 for seed in seeds)} of {len(seeds)}"
    assert "on the validation half: midas. No test column takes part." in block  # all have the same; the first


def test_claims_on_searches_of_nas_bench_201_come_with_what_the_benchmark_says(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan.config.analysis is not None
    analysis = plan.config.analysis.model_copy(update={"space": "nas_bench_201"})
    own_plan = with_config(plan, nas_bench_201_table="benchmark.csv", analysis=analysis)
    assert "rank correlation" not in make_table(own_plan, 5, tmp_path)[1]  # of so few searches
    monkeypatch.setattr(table_ablation, "FEWEST_RANKED", 4)
    numbers, text, _ = make_table(own_plan, 5, tmp_path)
    block = text.split("**Attention methods against the claims on searches (nas_bench_201 on digits)**")[1]
    assert cells(block)[0][2:5] == ["C1: no. 9930", "CIFAR-100", "ImageNet16-120"]
    found = {m: metric(plan, "lookup/metrics.json", "cell", "nas_bench_201", method=m) for m in ("midas", "no_patch")}
    for name in ("c100_test_acc_200", "in16_test_acc_200"):
        row = own(numbers, space="nas_bench_201", method="no_patch", quantity=name)
        assert row["mean"].tolist() == pytest.approx([np.mean([cell[name] for cell in found["no_patch"]])])  # type: ignore[index]
    valid = [metric(plan, "search/metrics.json", "valid_accuracy", "nas_bench_201", method=m) for m in found]
    worth = [[cell["c10_test_acc_200"] for cell in rows] for rows in found.values()]  # type: ignore[index]
    rho = stats.spearmanr(np.ravel(valid), np.ravel(worth)).statistic
    assert f"Over {len(np.ravel(valid))} searches, methods and seeds pooled, its rank correlation with" in text
    assert f"rank correlation with the test accuracy of the found cell is {rho:.2f} (Spearman)" in text


def test_agreement_counts_equal_edges_with_equal_operations() -> None:
    first = parse(NB201_CELL)
    other = parse(NB201_CELL.replace("none~0", "skip_connect~0").replace("nor_conv_1x1", "none"))
    assert table_ablation.agreement([first, first]) == 1
    assert table_ablation.agreement([first, other]) == pytest.approx(4 / 6)
    assert table_ablation.agreement([first, first, other]) == pytest.approx((1 + 4 / 6 + 4 / 6) / 3)
    # in a space that keeps two edges another edge is no agreement, even with the same operation
    moved = parse(
        DARTS_CELL.replace("('skip_connect', 0), ('max_pool_3x3', 2)", "('skip_connect', 1), ('max_pool_3x3', 2)")
    )
    assert table_ablation.agreement([parse(DARTS_CELL), moved]) == pytest.approx(14 / 16)


def test_parameter_free_operations_are_counted_per_cell(tmp_path: Path) -> None:
    parse(NB201_CELL).save(tmp_path / "a.json")
    assert table_ablation.parameter_free(tmp_path / "a.json") == 3  # none, avg_pool_3x3, skip_connect


@pytest.mark.parametrize("none", [True, False])
@pytest.mark.parametrize("name", ["nas_bench_201", "darts", "s1", "s4"])
def test_agreement_by_chance_is_that_of_random_cells(tmp_path: Path, name: str, none: bool) -> None:
    space = get_space(name)
    if none and not space.decodes_none:
        pytest.skip("none is not decoded there")
    drawn = [random_genotype(space, seed, none) for seed in range(600)]
    shared, free = table_ablation.by_chance(space, none)
    pairs = [table_ablation.agreement([a, b]) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert np.mean(pairs) == pytest.approx(shared, abs=4 * np.std(pairs) / len(pairs) ** 0.5)
    counts = []
    for genotype in drawn[:200]:
        genotype.save(tmp_path / "a.json")
        counts.append(table_ablation.parameter_free(tmp_path / "a.json"))
    assert np.mean(counts) == pytest.approx(free, abs=4 * np.std(counts) / len(counts) ** 0.5)


def test_cost_table_equals_the_file(table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(6)
    row = own(numbers, part="methods", method="no_patch", quantity="ratio").iloc[0]
    assert row[["mean", "low", "high", "n"]].tolist() == [1.5, 1.25, 1.75, 10]
    assert row["interval"] == "median of paired ratios, 95 % interval of it"
    methods, images, patches = text.split("**darts on digits: ")[1:]
    shown = ["1.235", "196", "12.3", "750.0 [600.0, 900.0]", "1.50 [1.25, 1.75]", "75.0", "250", "1.25"]
    assert row_of(methods, "16x16", "midas")[3:] == shown
    assert row_of(methods, "16x16", "darts")[2] == "n/a"
    assert row_of(methods, "16x16", "no_patch")[2] == "none"
    assert [row[:2] for row in cells(images)[2:]] == [[f"{s}x{s}", m] for s in (16, 32) for m in ("darts", "midas")]
    assert [row[2] for row in cells(patches)[2:]] == ["2", "4"]
    assert "on a test's processor; 3 cells, 16 channels, batches of 64; 10 turns of 3 steps each" in text
    assert "- counted by a test." in text


def test_cost_that_was_not_measured_says_so(plan: Plan, table: Callable[..., Rendered], tmp_path: Path) -> None:
    text = table(6)[1]
    assert row_of(text.split("image sizes")[0], "16x16", "darts")[-1] == "—ᵃ"
    assert "- ᵃ not enough memory for this method or for its baseline." in text
    experiments = [
        e.model_copy(update={"cost": e.cost.model_copy(update={"repeats": 5})}) if e.cost else e
        for e in plan.config.experiments
    ]
    few = with_config(plan, experiments=experiments, results_dir=str(tmp_path))
    write_cost(few.root / "darts/digits/cost/metrics.json", few.costs()[0])
    text = make_table(few, 6, tmp_path)[1]
    assert row_of(text.split("image sizes")[0], "16x16", "midas")[7] == "1.50ᵃ"
    assert "- ᵃ too few repeats for an interval." in text


def test_damaged_cost_file_is_named(tmp_path: Path) -> None:
    plan = full_config(tmp_path)
    path = plan.root / "darts/digits/cost/metrics.json"
    write_metrics(path, {"repeats": 2, "rows": [{"part": "methods"}]}, 1.0)
    with pytest.raises(ValueError, match=r"cost/metrics\.json: not the measurement of a search's cost: 'image_height'"):
        tables.make(PresentRun(number=6, config=plan.config), tmp_path)


def shared(name: str) -> pd.DataFrame:
    source = SHARED / f"{name}.csv"
    if not source.exists():
        pytest.skip("the collection of published numbers is not beside the repository")
    return pd.read_csv(source)


def test_cifar_errors_agree_with_their_source() -> None:
    theirs = shared("darts").dropna(subset=["c10_err_mean", "c10_err_best"], how="all").set_index("method")
    ours = literature.load("darts")
    ours = ours[ours["quantity"] == "c10_error"].set_index("method")
    common = ours.index.intersection(theirs.index)
    wanted = theirs[(theirs["preferred"] == "yes") & (theirs["status"] == "verified")]
    assert set(wanted.index) <= set(common)
    for part in ("mean", "std", "best"):
        expected = theirs.loc[common, f"c10_err_{part}"].to_numpy()
        assert np.array_equal(ours.loc[common, part].to_numpy(dtype=float), expected, equal_nan=True)


def test_imagenet_errors_agree_with_their_source() -> None:
    theirs = shared("darts").dropna(subset=["imagenet_top1_err"])
    theirs = theirs[(theirs["preferred"] == "yes") & (theirs["status"] == "verified")]
    modes = {"transfer from CIFAR-10": "transfer_c10", "transfer from CIFAR-100": "transfer_c100"}
    ours = literature.load("darts").assign(value=lambda frame: frame["mean"].fillna(frame["best"]))
    ours["imagenet_mode"] = ours["imagenet_mode"].map(modes).fillna("direct")
    quantities = {
        "imagenet_top1_error": "imagenet_top1_err",
        "imagenet_top5_error": "imagenet_top5_err",
        "imagenet_params_m": "imagenet_params_M",
        "imagenet_multiply_adds_m": "imagenet_flops_M",
    }
    wide = ours.pivot_table(index=["method", "imagenet_mode", "status"], columns="quantity", values="value")
    assert len(theirs) > 25
    for _, row in theirs.iterrows():
        found = wide.loc[(row["method"], row["imagenet_mode"], "verified")]
        for name, column in quantities.items():
            assert found.get(name) == row[column] or pd.isna(row[column]), f"{row['method']}: {name}"


def test_robust_darts_errors_agree_with_their_source() -> None:
    theirs = shared("rdarts")
    theirs = theirs[theirs["preferred"].isin(["yes", "alt"])]
    ours = literature.load("rdarts").assign(value=lambda frame: frame["mean"].fillna(frame["best"]))
    assert len(ours) == 4 * len(theirs)
    for _, row in theirs.iterrows():
        kind = "mean" if row["statistic"].startswith("mean") else "best"
        of_row = ours[(ours["method"] == row["method"]) & (ours["dataset"] == row["dataset"]) & ours[kind].notna()]
        assert set(of_row["status"]) == {row["status"]}
        for space in ("s1", "s2", "s3", "s4"):
            found = of_row[of_row["quantity"] == f"{space}_error"]
            assert found["value"].tolist() == [row[f"{space.upper()}_err"]]
            assert found["std"].tolist() == pytest.approx([row[f"{space.upper()}_std"]], nan_ok=True)
            part = "S1S3" if space in ("s1", "s3") else "S2S4"
            layers, channels = row[f"eval_layers_{part}"], row[f"eval_channels_{part}"]
            width = "" if pd.isna(layers) else f"{layers}x{channels}".replace(".0", "")
            if "(" not in width:  # in that row of the source S2 and S4 differ
                assert found["network"].tolist() == [width]


def test_nas_bench_201_accuracies_agree_with_their_source() -> None:
    theirs = shared("nas_bench_201")
    computed = "Optimum|Random \\(sampled"  # this project computes both from the table
    both = theirs["method"] == "GDAS (v2)"  # printed by many as GDAS, without a word
    chosen = ((theirs["preferred"] == "yes") | both) & ~theirs["method"].str.contains(computed)
    theirs = theirs[chosen].set_index("method").rename(index={"GDAS (v2)": "GDAS (later rerun)"})
    ours = literature.load("nas_bench_201")
    assert set(theirs.index) == set(ours["method"])
    for column in ("c10_valid", "c10_test", "c100_valid", "c100_test", "in16_valid", "in16_test"):
        found = ours[ours["quantity"] == f"{column}_acc_200"].set_index("method")["mean"]
        expected = theirs[f"{column}_mean"].dropna()
        assert found.reindex(expected.index).tolist() == expected.tolist()


def test_literature_of_an_unknown_status_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "darts.csv").write_text("method,status,source\nX,heard,somebody\n")
    monkeypatch.setattr(literature, "FOLDER", tmp_path)
    with pytest.raises(
        ValueError, match=r"darts\.csv: status \['heard'\] is not allowed; allowed: verified, from_memory"
    ):
        literature.load("darts")


def test_retraining_protocols_are_named(plan: Plan) -> None:
    assert wording.retrainings(plan, "darts") == "3x8, 2 epochs"
    experiments = list(plan.config.experiments)
    wide = experiments[2].model_copy(update={"retrain": Retrain(channels=36, cells=20, epochs=600)})
    changed = with_config(plan, experiments=[*experiments[:2], wide])
    assert wording.retrainings(changed, "darts") == "digits 3x8, 2 epochs; digit_pairs 20x36, 600 epochs"


def say_parts(plan: Plan, dataset: str, file: str, parts: list[str | None]) -> None:
    """Write into the metrics of all trainings of each seed which part was tested on."""
    for seed, part in zip(plan.config.seeds, parts, strict=True):
        for path in plan.root.glob(f"*/{dataset}/*/seed{seed}/{file}"):
            content = json.loads(path.read_text()) | ({"test_part": part} if part else {})
            path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("number", "file", "dataset"),
    [(2, "retrain", "digits"), (3, "transfer", "digit_photos"), (4, "retrain", "digits"), (5, "retrain", "digits")],
)
def test_a_table_says_which_images_were_tested_on_where_it_is_recorded(
    tmp_path: Path, number: int, file: str, dataset: str
) -> None:
    plan = full_config(tmp_path)
    write_results(plan, images=5)
    (plan.root / "analysis").mkdir()
    rows = [
        {"method": method, "seed": seed, "conv_spread": 0.1, "tested": 4, "rejected": 1}
        for method in plan.attending()
        for seed in plan.config.seeds
    ]
    pd.DataFrame(rows).to_csv(plan.root / "analysis/variants.csv", index=False)
    assert "Test images" not in make_table(plan, number, tmp_path)[1]  # metrics of an earlier version
    for parts, said in (
        (["val", None], "not recorded, val/"),
        (["val", "val"], "val/"),
        (["test", "val"], "test/, val/"),
    ):
        say_parts(plan, "digits", f"{file}/metrics.json", parts)
        _, text, latex = make_table(plan, number, tmp_path)
        for form in (text, latex.replace(r"\_", "_")):
            assert f"Test images of {dataset}: {said}." in form
        assert text.count("Test images of") == 1


def test_a_note_is_text_in_markdown_and_latex(table: Callable[..., Rendered]) -> None:
    _, text, latex = table(2, "signs")
    caption = text.split("\n")[0]
    assert NOTE in re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", caption.replace("\\\\", "\0")).replace("\0", "\\")
    left = re.sub(r"\\[!-/:-@\[-`{-~]", "", caption.removeprefix("**Table 2.**"))
    assert not re.search(r"[*`$|<>\[\]~\\]|\b_|_\b", left)
    for sign, written in (("$", r"5\$ of \$x\_\{"), ("_", r"\_c\_"), ("%", r"50 \% \#1"), ("&", r"$<$e$>$ \& f\_")):
        assert sign in NOTE
        assert written in latex
    assert r"\textbackslash{}frac" in latex
