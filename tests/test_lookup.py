import csv
import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from midas.benchmark import ACCURACIES, COLUMNS
from midas.genotype import parse
from midas.lookup import lookup
from midas.resolved import LookupRun

TABLE = Path(__file__).parents[2] / "shared/data/nas_bench_201/nas_bench_201.csv.gz"

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


def test_nothing_of_it_needs_torch():
    code = "import sys, midas.lookup; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


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
