"""Table S3 and the accuracies behind it, on made-up scores whose answer is known."""

import json
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from small_configuration import RAW

from midas.accuracies import accuracies
from midas.analysis.proxies.table import NO_TABLE, make, table
from midas.analysis.run_facts import metrics_files
from midas.config.keys import Config
from midas.plan.further.proxies import problems
from midas.plan.plan import Plan
from midas.plan.runs import AccuraciesRun
from midas.spaces.accuracies import CLEAN, drawn
from midas.spaces.benchmark import COLUMNS, numbers
from midas.spaces.genotype import parse

COUNT = 40
SAMPLE = drawn(COUNT, 7)
FOUND = drawn(COUNT + 4, 7)[COUNT:]
"""Cells that the searches found: two methods, two seeds."""


def accuracy(cell):
    return 10 + numbers()[cell] % 80


@pytest.fixture
def places(tmp_path):
    """A configuration with scores, tables, and searches' results, all made up: `good` orders cells as their accuracies do."""
    raw = deepcopy(RAW)
    raw |= {"results_dir": str(tmp_path / "results"), "analysis": None, "experiments": raw["experiments"][:1]}
    raw["nas_bench_201_table"] = str(tmp_path / "table.csv")
    raw["nas_bench_201_cells"] = COUNT + 4
    raw["proxies"] = {"dataset": "digits", "sample": COUNT, "chunk": 15, "seed": 7}
    raw["proxies"]["robust"] = {"table": str(tmp_path / "robust.csv"), "columns": ["pgd"]}
    rows = [{**dict.fromkeys(COLUMNS, accuracy(c)), "arch": c, "index": numbers()[c]} for c in [*SAMPLE, *FOUND]]
    pd.DataFrame(rows).assign(c10_params_m=1.0, c10_flops_m=9.0).to_csv(tmp_path / "table.csv", index=False)
    known = [*SAMPLE[:30], *FOUND]
    pd.DataFrame({"arch": known, "pgd": [100 - accuracy(c) for c in known]}).to_csv(
        tmp_path / "robust.csv", index=False
    )
    plan = Plan(Config.model_validate(raw))
    for chunk in range(3):
        write_chunk(plan, chunk, SAMPLE[chunk * 15 : (chunk + 1) * 15])
    for cell, found in zip(plan.cells("nas_bench_201", evaluated=True), FOUND, strict=True):
        folder = plan.cell_folder(cell)
        (folder / "lookup").mkdir(parents=True)
        (folder / "decode").mkdir()
        (folder / "search").mkdir()
        parse(found).save(folder / "decode/genotype.json")
        (folder / "lookup/metrics.json").write_text(json.dumps({"cell": {"arch": found}}))
        (folder / "lookup/history.csv").write_text("\n".join(["arch", SAMPLE[0], SAMPLE[1], found, found, ""]))
        (folder / "search/metrics.json").write_text(json.dumps({"cost": {"wall_seconds": 60 + cell.seed}}))
    return plan


def write_chunk(plan, chunk, cells):
    folder = plan.chunk_folder(chunk)
    folder.mkdir(parents=True)
    scores = {"good": [accuracy(c) for c in cells], "bad": [-accuracy(c) for c in cells], "params": 1.0}
    frame = pd.DataFrame({"index": [numbers()[c] for c in cells], "arch": cells, **scores})
    frame["params"] = [numbers()[c] for c in cells]
    frame.loc[frame.index[:1], "bad"] = np.nan
    frame.to_csv(folder / "scores.csv", index=False)
    metrics = {"cost": {"wall_seconds": 2.0 * len(cells), "device": "a processor"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def look_up(plan):
    accuracies(AccuraciesRun.model_validate_json(plan.run("accuracies")), plan.accuracies_folder)


def numbers_of(plan, block):
    return table(plan).blocks[block].numbers


def test_accuracies_are_of_the_sample_and_of_what_was_found(places):
    look_up(places)
    found = pd.read_csv(places.accuracies_folder / "accuracies.csv").set_index("arch")
    assert list(found.index) == [*SAMPLE, *FOUND]
    assert list(found.columns) == [*CLEAN, "pgd"]
    assert found["c10_test_acc_200"].tolist() == [accuracy(c) for c in [*SAMPLE, *FOUND]]
    assert found["pgd"].isna().sum() == 10  # the robust table lacks these
    metrics = json.loads((places.accuracies_folder / "metrics.json").read_text())
    assert metrics["looked_up"] == COUNT + 4
    assert metrics["known"] == {**dict.fromkeys(CLEAN, COUNT + 4), "pgd": 34}
    assert ("accuracies", places.accuracies_folder / "metrics.json") in list(metrics_files(places))


def test_scores_that_order_cells_as_accuracies_do_correlate_fully(places):
    look_up(places)
    rows = numbers_of(places, 0).set_index(["method", "quantity"])
    assert rows.loc[("good", "spearman_c10_test_acc_200"), "mean"] == pytest.approx(1)
    assert rows.loc[("bad", "spearman_c10_test_acc_200"), ["mean", "n"]].tolist() == pytest.approx([-1, 37])
    assert rows.loc[("good", "spearman_pgd"), ["mean", "n"]].tolist() == pytest.approx([-1, 30])
    assert rows.loc[("params", "spearman_params"), "mean"] == pytest.approx(1)
    assert (rows["low"] <= rows["high"]).all()
    assert rows["interval"].str.contains("bootstrap").all()


def test_picks_are_of_as_many_cells_as_searches_found_and_as_were_scored(places):
    look_up(places)
    rows = numbers_of(places, 1)
    clean = rows[rows["quantity"] == "c10_test_acc_200"].set_index(["method", "n"])
    # two searches of a method; four cells on the way of one method's; all
    assert sorted({n for method, n in clean.index if method == "good"}) == [2, 4, COUNT]
    known = np.array([accuracy(c) for c in SAMPLE])
    assert clean.loc[("good", COUNT), "mean"] == known.max()
    expected = np.mean([max(a, b) for i, a in enumerate(known) for b in known[i + 1 :]])
    assert clean.loc[("good", 2), "mean"] == pytest.approx(expected)
    assert clean.loc[("any (a random cell)", 1), ["mean", "std"]].tolist() == pytest.approx([known.mean(), known.std()])
    assert clean.loc[("midas", 2), "mean"] == np.mean([accuracy(c) for c in FOUND[:2]])
    assert clean.loc[("static", 2), "mean"] == np.mean([accuracy(c) for c in FOUND[2:]])
    seconds = rows[rows["quantity"] == "seconds"].set_index(["method", "n"])["mean"]
    assert (seconds[("midas", 2)], seconds[("good", COUNT)], seconds[("good", 2)]) == (60.5, 2.0 * COUNT, 4.0)


def test_the_table_is_written_in_three_forms(places, tmp_path):
    look_up(places)
    make(places.presented(), tmp_path / "tables")
    text = (tmp_path / "tables/table_s3.md").read_text()
    assert text.startswith(
        "**Table S3.** Scores without training: 40 cells of NAS-Bench-201 drawn at random, on digits"
    )
    assert "| search on digits | midas " in text
    assert (tmp_path / "tables/table_s3.tex").stat().st_size > 0
    assert set(pd.read_csv(tmp_path / "tables/table_s3.csv")["status"]) == {"measured"}


def test_it_is_drawn_again_where_the_tables_are_gone(places, tmp_path):
    look_up(places)
    for name in ("table.csv", "robust.csv"):
        (tmp_path / name).unlink()
    assert len(table(places).blocks) == 2


def test_a_found_cell_that_came_after_the_tables_were_gone_is_refused_before_any_work(places, tmp_path):
    look_up(places)
    assert list(problems(places)) == []
    (tmp_path / "robust.csv").unlink()
    assert [line for line in problems(places) if line.startswith("proxies.robust")] == []
    more = Plan(places.config.model_copy(update={"seeds": [*places.config.seeds, 9]}))
    [line] = [line for line in problems(more) if line.startswith("proxies.robust")]
    assert line.startswith(
        f"proxies.robust.table: {tmp_path}/robust.csv is not there, and {places.accuracies_folder} was made"
    )
    assert "without 2 found cells, e.g. nas_bench_201/digits/" in line
    assert line.endswith("/seed9/decode/genotype.json")


def test_without_a_table_scores_are_set_against_the_parameters_alone(places, tmp_path):
    config = places.config
    proxies = config.proxies.model_copy(update={"robust": None})
    plan = Plan(config.model_copy(update={"nas_bench_201_table": None, "proxies": proxies}))
    [block] = table(plan).blocks
    missing = block.numbers.set_index("quantity")["missing"]
    assert set(missing["spearman_c10_test_acc_200"]) == {NO_TABLE}
    assert set(missing["spearman_params"]) == {""}
    make(plan.presented(), tmp_path / "tables")
    assert NO_TABLE in (tmp_path / "tables/table_s3.md").read_text()


def test_a_damaged_result_is_named(places):
    look_up(places)
    path = places.chunk_folder(1) / "scores.csv"
    path.write_text(path.read_text().replace("arch", "cell", 1))
    with pytest.raises(ValueError, match=r"chunk1/scores\.csv: column arch is missing"):
        table(places)
    path.write_text((places.chunk_folder(0) / "scores.csv").read_text())
    with pytest.raises(ValueError, match="was scored twice; each once"):
        table(places)


def test_a_file_of_accuracies_without_its_columns_is_named(places):
    look_up(places)
    (places.accuracies_folder / "accuracies.csv").write_text("arch\n")
    with pytest.raises(ValueError, match=r"accuracies\.csv: column c10_test_acc_200, .*, pgd is missing"):
        table(places)


def test_a_cell_of_another_space_among_the_found_is_named(places):
    run = AccuraciesRun.model_validate_json(places.run("accuracies"))
    (places.root / "cell.json").write_text('{"space": "nas_bench_201", "cells": {"cell": [[["sep_conv_3x3", 0]]]}}')
    wrong = run.model_copy(update={"genotypes": [str(places.root / "cell.json")]})
    with pytest.raises(ValueError, match=r"cell\.json: operation 'sep_conv_3x3' is not allowed"):
        accuracies(wrong, places.accuracies_folder)


def test_without_the_key_there_is_no_table(places):
    with pytest.raises(ValueError, match="proxies: missing; size test asks for no scores"):
        table(Plan(places.config.model_copy(update={"proxies": None})))
