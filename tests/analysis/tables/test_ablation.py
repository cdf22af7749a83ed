"""Table 5: the choices of each method, agreement of cells, claims and chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_results import (
    DARTS_CELL,
    NB201_CELL,
    with_config,
)
from made_up_tables import METHODS, VARIANTS, Rendered, cells, make_table, metric, own, row_of
from scipy import stats

from midas.analysis.tables import ablation as table_ablation
from midas.analysis.tables import wording
from midas.config.method import Method
from midas.config.settings import SearchChanges
from midas.methods.decoding import random_genotype
from midas.plan.plan import Plan
from midas.spaces import SPACES, get_space
from midas.spaces.genotype import parse


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


def test_settings_of_single_searches_and_switches_are_told(plan: Plan, tmp_path: Path) -> None:
    assert "settings" not in make_table(plan, 5, tmp_path)[1]
    changes = {"darts": SearchChanges(nesterov=True, weight_decay=5e-4)}
    experiments = [
        e.model_copy(
            update={"search_of": changes, "search": e.search.model_copy(update={"order": "weights_first"})}
            if e.space == "darts"
            else {}
        )
        for e in plan.config.experiments
    ]
    _, text, _ = make_table(with_config(plan, experiments=experiments), 5, tmp_path)
    block = text.split("**darts on digits")[1].split("**Attention methods")[0]
    assert "epochs; weights learn before the architecture)" in block
    header, _, *rows = cells(block)
    told = {row[0]: row[header.index("settings")] for row in rows}
    assert told["darts"] == "weight_decay 0.0005, nesterov True"
    assert told["midas"] == "as the others"


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
    assert cells(block)[0][2:7] == ["C1: no. 9930", "Cells", "CIFAR-10 valid.", "CIFAR-100", "ImageNet16-120"]
    found = {m: metric(plan, "lookup/metrics.json", "cell", "nas_bench_201", method=m) for m in ("midas", "no_patch")}
    assert row_of(block, "no_patch")[3] == ", ".join(str(cell["index"]) for cell in found["no_patch"])  # type: ignore[index]
    for name in ("c10_valid_acc_200", "c100_test_acc_200", "in16_test_acc_200"):
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
