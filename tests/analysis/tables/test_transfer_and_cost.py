"""Tables 3 and 6, and what tables say of trainings: protocols and images that were tested on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_results import (
    with_config,
    write_cost,
    write_metrics,
    write_results,
)
from made_up_tables import Rendered, cells, full_config, make_table, metric, own, row_of

from midas.analysis.tables import making as tables
from midas.analysis.tables import wording
from midas.config.settings import Retrain
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


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
    assert row_of(text, "darts", "digits", "midas - darts")[-1] == "fewer than three seeds: no test"


def test_cost_table_equals_the_file(table: Callable[..., Rendered]) -> None:
    numbers, text, _ = table(6)
    row = own(numbers, part="methods", method="no_patch", quantity="ratio").iloc[0]
    assert row[["mean", "low", "high", "n"]].tolist() == [1.5, 1.25, 1.75, 10]
    assert row["interval"] == "median of paired ratios, 95 % interval of it"
    methods, images, patches = text.split("**darts on digits: ")[1:]
    shown = ["2", "1.235", "196", "12.3", "750.0 [600.0, 900.0]", "1.50 [1.25, 1.75]", "75.0", "250", "1.25"]
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
    assert row_of(text.split("image sizes")[0], "16x16", "midas")[8] == "1.50ᵃ"
    assert "- ᵃ too few repeats for an interval." in text


def test_damaged_cost_file_is_named(tmp_path: Path) -> None:
    plan = full_config(tmp_path)
    path = plan.root / "darts/digits/cost/metrics.json"
    write_metrics(path, {"repeats": 2, "rows": [{"part": "methods"}]}, 1.0)
    with pytest.raises(ValueError, match=r"cost/metrics\.json: not the measurement of a search's cost: 'image_height'"):
        tables.make(PresentRun(number=6, config=plan.config), tmp_path)


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


def test_passes_are_shown_where_they_were_counted(plan: Plan, table: Callable[..., Rendered], tmp_path: Path) -> None:
    numbers, text, _ = table(6)
    assert set(numbers.loc[numbers["quantity"] == "passes", "mean"]) == {2.0}
    assert "Passes: forward and backward" in text
    assert "Passes" in text.split("Arch. params")[0]
    assert "forward alone |" not in text  # none in any row
    older = full_config(tmp_path)
    for experiment in older.costs():
        path = older.root / experiment.space / experiment.dataset / "cost/metrics.json"
        write_cost(path, experiment)
        content = json.loads(path.read_text())
        for row in content["rows"]:
            del row["passes"], row["forward_passes"]
        path.write_text(json.dumps(content))
    text = make_table(older, 6, tmp_path)[1]
    assert "Passes" not in text
