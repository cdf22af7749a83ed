import bz2
import codecs
import csv
import gzip
import json
import lzma
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, SHARED

from midas.lookup import lookup
from midas.plan.runs import LookupRun
from midas.spaces.benchmark import ACCURACIES, CELLS, COLUMNS, numbers, read_table
from midas.spaces.genotype import parse

TABLE = SHARED / "data/nas_bench_201/nas_bench_201.csv.gz"

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
OTHER = SKIPS.replace("skip_connect~2", "none~2")
# published: index, cell, six accuracies in the order of ACCURACIES, millions of parameters and of multiply-adds
ROWS = [
    (9930, BEST, 91.55, 94.36, 73.49, 73.51, 46.37, 46.34, 1.288506, 184.73024),
    (1835, SKIPS, 39.77, 54.30, 15.03, 15.61, 16.43, 16.32, 0.073306, 7.78304),
]


@pytest.fixture
def inputs(tmp_path):
    """A run on a table of two cells; its history holds the collapsed cell first and the best cell last."""
    table, history, genotype = (tmp_path / name for name in ("table.csv", "history.csv", "genotype.json"))
    write(table, COLUMNS, ROWS)
    write(history, ("epoch", "genotype"), [(1, SKIPS), (2, BEST)])
    parse(BEST).save(genotype)
    return LookupRun(genotype=str(genotype), history=str(history), table=str(table))


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def results(run, folder):
    lookup(run, folder)
    with (folder / "history.csv").open(newline="") as file:
        return json.loads((folder / "metrics.json").read_text()), list(csv.DictReader(file))


def test_found_cell_gets_its_row(inputs, tmp_path):
    metrics, _ = results(inputs, tmp_path / "lookup")
    assert metrics["cell"] == dict(zip(COLUMNS, ROWS[0], strict=True))
    assert metrics["cell"]["index"] == 9930


def test_benchmark_is_summed_up_over_its_cells(inputs, tmp_path):
    metrics, _ = results(inputs, tmp_path / "lookup")
    assert metrics["benchmark_cells"] == 2
    expected = {"best": 94.36, "mean": pytest.approx((94.36 + 54.30) / 2), "std": pytest.approx((94.36 - 54.30) / 2)}
    assert metrics["benchmark"]["c10_test_acc_200"] == expected
    assert set(metrics["benchmark"]) == set(ACCURACIES)


def test_history_has_the_accuracies_of_each_epochs_cell(inputs, tmp_path):
    _, history = results(inputs, tmp_path / "lookup")
    assert [(row["epoch"], row["arch"]) for row in history] == [("1", SKIPS), ("2", BEST)]
    for row, known in zip(history, reversed(ROWS), strict=True):
        assert [float(row[name]) for name in ACCURACIES] == list(known[2:8])


@pytest.mark.parametrize("missing", ["arch", "c10_test_acc_200", "in16_valid_acc_200", "c10_params_m"])
def test_table_without_a_column_is_refused_by_its_name(missing, inputs, tmp_path):
    keep = [name for name in COLUMNS if name != missing]
    write(Path(inputs.table), keep, [[dict(zip(COLUMNS, row, strict=True))[name] for name in keep] for row in ROWS])
    with pytest.raises(ValueError, match=rf"table\.csv: column {missing} is missing"):
        lookup(inputs, tmp_path / "lookup")


def test_cell_that_the_table_lacks_is_refused_by_name(inputs, tmp_path):
    parse(OTHER).save(Path(inputs.genotype))
    with pytest.raises(ValueError, match=r"none~2\| is not in the table"):
        lookup(inputs, tmp_path / "lookup")


def test_a_table_that_lost_cells_since_it_was_checked_is_refused(inputs, tmp_path):
    assert results(inputs.model_copy(update={"cells": 2}), tmp_path / "out")
    with pytest.raises(ValueError, match=re.escape(f"{inputs.table}: 2 cells are not allowed; 3, each once")):
        lookup(inputs.model_copy(update={"cells": 3}), tmp_path / "fewer")
    assert not (tmp_path / "fewer").exists()


def test_cell_of_the_history_that_the_table_lacks_is_refused_and_nothing_is_written(inputs, tmp_path):
    write(Path(inputs.history), ("epoch", "genotype"), [(1, OTHER)])
    with pytest.raises(ValueError, match=r"none~2\| is not in the table"):
        lookup(inputs, tmp_path / "lookup")
    assert not (tmp_path / "lookup").exists()


@pytest.mark.parametrize("content", ["", "epoch,lr\n1,0.1\n", "epoch,genotype\none,|none~0|\n", "epoch,genotype\n1\n"])
def test_wrong_history_is_refused_by_name(content, inputs, tmp_path):
    Path(inputs.history).write_text(content)
    with pytest.raises(ValueError, match=r"history\.csv: not the history of a search"):
        lookup(inputs, tmp_path / "lookup")


# --- the table itself

ROW = dict(zip(COLUMNS, ROWS[0], strict=True))


def table_of(path, rows, header=COLUMNS):
    write(path, header, [[row[name] for name in header] for row in rows])
    return path


def test_a_table_is_checked_line_by_line(tmp_path):
    """The right value beside each wrong one."""
    wrong = {
        ("c10_test_acc_200", "nan"): "c10_test_acc_200: nan is not allowed; percent, 0 to 100",
        ("c100_valid_acc_200", "inf"): "c100_valid_acc_200: inf is not allowed; percent, 0 to 100",
        ("in16_test_acc_200", "100.1"): "in16_test_acc_200: 100.1 is not allowed; percent, 0 to 100",
        ("in16_valid_acc_200", "-1"): "in16_valid_acc_200: -1 is not allowed; percent, 0 to 100",
        ("c10_valid_acc_200", ""): "c10_valid_acc_200: '' is not allowed; a number",
        ("c10_params_m", "nan"): "c10_params_m: nan is not allowed; millions, above 0 and below 1000",
        ("c10_flops_m", "184730240"): "c10_flops_m: 184730240 is not allowed; millions, above 0 and below 1000",
        ("index", "9931"): f"index: 9931 is not allowed; {BEST} is no. 9930 of the benchmark",
        ("index", "best"): "index: 'best' is not allowed; a number",
        ("arch", "|none~0|"): "arch: '|none~0|' is no cell of the benchmark; one is |avg_pool_3x3~0|+",
        ("arch", BEST.replace("skip_connect", "sep_conv_3x3")): "arch: '|nor_conv_3x3~0|+",
    }
    path = tmp_path / "table.csv"
    for (name, text), message in wrong.items():
        table_of(path, [dict(zip(COLUMNS, ROWS[1], strict=True)), ROW | {name: text}])
        with pytest.raises(ValueError, match=re.escape(f"{path}, line 3: {message}")):
            read_table(path)
    table_of(
        path, [ROW | {"index": "9930.0", "arch": f" {BEST} ", "in16_test_acc_200": "0.8333", "c10_test_acc_200": "100"}]
    )
    assert read_table(path)[BEST]["c10_test_acc_200"] == 100


def test_a_cell_that_is_there_twice_is_refused_where_it_comes_again(tmp_path):
    table_of(tmp_path / "t.csv", [ROW, dict(zip(COLUMNS, ROWS[1], strict=True)), ROW | {"c10_test_acc_200": 94.37}])
    with pytest.raises(
        ValueError, match=re.escape(f"t.csv, line 4: arch: {BEST} is there a second time; each cell once")
    ):
        read_table(tmp_path / "t.csv")


def test_accuracies_as_fractions_are_refused(tmp_path):
    rows = [{n: v / 100 if n in ACCURACIES else v for n, v in zip(COLUMNS, row, strict=True)} for row in ROWS]
    with pytest.raises(ValueError, match=r"column c10_valid_acc_200: 0\.9155 as the best is not allowed; percent"):
        read_table(table_of(tmp_path / "t.csv", rows))
    rows = [row | {n: 100 * row[n] for n in ACCURACIES if n != "in16_test_acc_200"} for row in rows]
    with pytest.raises(ValueError, match=r"column in16_test_acc_200: 0\.4634 as the best is not allowed; percent"):
        read_table(table_of(tmp_path / "t.csv", rows))


def test_values_that_do_not_stand_below_their_names_are_refused(tmp_path):
    table_of(tmp_path / "t.csv", [ROW])
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text.replace("94.36", "94,36"))  # a comma for the point
    with pytest.raises(ValueError, match="line 2: 11 values are not allowed; 10, one for each column"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(text.replace("c10_flops_m", "c10_params_m,c10_flops_m").replace("1.28", "2,1.28"))
    with pytest.raises(ValueError, match="column c10_params_m is there twice; each once"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, lambda text: text.decode().encode("utf-16")])
def test_a_table_may_be_packed_and_be_written_by_a_spreadsheet(tmp_path, pack):
    path = table_of(tmp_path / "t.csv", [ROW])
    path.write_bytes(pack(codecs.BOM_UTF8 + path.read_bytes() if pack is bz2.compress else path.read_bytes()))
    assert read_table(path)[BEST]["index"] == 9930


def test_a_table_that_changes_is_read_again(tmp_path):
    path = table_of(tmp_path / "t.csv", [ROW])
    assert read_table(path) is read_table(path)
    table_of(path, [ROW | {"c10_test_acc_200": 9.5}])
    assert read_table(path)[BEST]["c10_test_acc_200"] == 9.5


@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is missing")
def test_the_numbers_of_all_cells_are_those_of_the_benchmark():
    with gzip.open(TABLE, "rt", newline="") as file:
        published = {row["arch"]: int(row["index"]) for row in csv.DictReader(file)}
    assert numbers() == published
    assert len(published) == CELLS


def test_nothing_of_it_needs_torch():
    code = "import sys, midas.lookup; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is missing")
def test_real_table_gives_the_published_numbers(inputs, tmp_path):
    metrics, history = results(inputs.model_copy(update={"table": str(TABLE)}), tmp_path / "lookup")
    assert metrics["benchmark_cells"] == 15625
    assert [round(metrics["cell"][name], 2) for name in ACCURACIES] == list(ROWS[0][2:8])
    best = [91.61, 94.37, 73.49, 73.51, 46.73, 47.31]
    assert [round(metrics["benchmark"][name]["best"], 2) for name in ACCURACIES] == best
    with gzip.open(TABLE, "rt", newline="") as file:
        column = [float(row["c10_test_acc_200"]) for row in csv.DictReader(file)]
    assert metrics["benchmark"]["c10_test_acc_200"]["mean"] == pytest.approx(statistics.fmean(column))
    assert round(float(history[0]["c10_test_acc_200"]), 2) == 54.30


def test_a_random_cell_has_no_history_but_itself(inputs, tmp_path):
    _, history = results(inputs.model_copy(update={"history": None}), tmp_path / "lookup")
    assert [(row["epoch"], row["arch"]) for row in history] == [("0", BEST)]
