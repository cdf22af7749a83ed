"""The key neighbourhoods: what it needs, and what it leaves as it was."""

import json

import pytest
from benchmark_tables import write_whole_table
from small_configuration import problems

from midas.config.further.neighbourhoods import Accuracy, Neighbourhoods
from midas.plan.check import load
from midas.plan.further.listed import FURTHER
from midas.plan.further.neighbourhoods import FILES, files
from midas.plan.runs import decisive
from midas.publish import _needed
from midas.spaces.benchmark import ACCURACIES


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "t.csv"
    write_whole_table(path)
    return str(path)


def test_it_is_off_unless_it_is_asked_for(raw, table):
    plan = load(raw | {"nas_bench_201_table": table})
    assert plan.config.neighbourhoods is None
    assert [file for further in FURTHER for file in further.files(plan)] == []
    asked = load(raw | {"nas_bench_201_table": table, "neighbourhoods": {}})
    assert asked.config.neighbourhoods == Neighbourhoods()
    assert files(asked) == [asked.root / "neighbourhoods" / name for name in FILES]
    assert set(_needed(asked)) - set(_needed(plan)) == set(files(asked))  # what is published is redrawn from them


def test_it_repeats_no_step_table_or_figure(raw, table):
    raw["nas_bench_201_table"] = table
    before, after = load(raw), load(raw | {"neighbourhoods": {"draws": 100}})
    for number in (None, *before.tables()):
        assert decisive(before.presented(number)) == decisive(after.presented(number))
    for cell in before.cells():
        names = (cell.experiment.space, cell.experiment.dataset, cell.method, cell.seed)
        for step in ("search", "decode"):
            assert before.run(step, *names) == after.run(step, *names)


def test_its_accuracies_are_the_columns_of_the_table():
    assert list(Accuracy.__args__) == list(ACCURACIES)


def test_it_needs_the_table_of_all_cells(raw, table, tmp_path):
    raw["neighbourhoods"] = {}
    missing = "neighbourhoods: nas_bench_201_table is missing; the accuracies are those of the benchmark's table"
    assert problems(raw) == [missing]
    fewer = "neighbourhoods: not allowed with nas_bench_201_cells 15624; a table of all 15,625 cells"
    assert fewer in problems(raw | {"nas_bench_201_table": table, "nas_bench_201_cells": 15_624})
    less = tmp_path / "less.csv"
    write_whole_table(less, without=["c100_test_acc_200"])
    (line,) = problems(raw | {"nas_bench_201_table": str(less)})
    assert line.startswith(f"nas_bench_201_table: {less}: column c100_test_acc_200 is missing; needed: ")


def test_a_table_that_is_gone_is_missed_only_where_its_numbers_are_not_there(raw, tmp_path):
    raw |= {"neighbourhoods": {}, "nas_bench_201_table": str(tmp_path / "gone.csv"), "results_dir": str(tmp_path)}
    for cell in load(raw | {"neighbourhoods": None, "nas_bench_201_table": None}).cells("nas_bench_201"):
        folder = tmp_path / f"test/nas_bench_201/digits/{cell.method}/seed{cell.seed}/lookup"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    (line,) = problems(raw)
    gone = f"neighbourhoods: nas_bench_201_table {tmp_path}/gone.csv is not there, "
    assert line == f"{gone}and {tmp_path}/test/neighbourhoods is not finished"
    (tmp_path / "test/neighbourhoods").mkdir()
    for name in FILES:
        (tmp_path / "test/neighbourhoods" / name).write_text(json.dumps({}))
    (line,) = problems(raw)
    assert line.startswith(f"{gone}and {tmp_path}/test/neighbourhoods was made with None, not ")
    made = Neighbourhoods().model_dump(mode="json")
    content = {"config": {"config": {"neighbourhoods": made}}}
    (tmp_path / "test/neighbourhoods/metrics.json").write_text(json.dumps(content))
    assert load(raw).config.neighbourhoods
    (line,) = problems(raw | {"neighbourhoods": {"draws": 200}})  # it can't be made again, and stays
    assert "'draws': 10000}, not " in line


def test_it_needs_a_search_of_nas_bench_201(raw, table):
    raw |= {"nas_bench_201_table": table, "neighbourhoods": {}, "analysis": None}
    nothing = "neighbourhoods: not allowed; no method searches nas_bench_201, whose cells these are"
    assert problems(raw | {"experiments": raw["experiments"][1:]}) == [nothing]
    raw["methods"]["random"] = {"weights": "random"}
    drawn = raw["experiments"][0] | {"methods": ["random"]}
    assert problems(raw | {"experiments": [drawn]}) == [nothing]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"accuracies": ["c10_test"]}, "neighbourhoods.accuracies.0: 'c10_test' is not allowed; input should be "),
        (
            {"accuracies": ["c10_test_acc_200"] * 2},
            "neighbourhoods.accuracies: ['c10_test_acc_200', 'c10_test_acc_200'] is not",
        ),
        ({"accuracies": []}, "neighbourhoods.accuracies: [] is not allowed; list should have at least 1 item"),
        (
            {"random_cells": 1},
            "neighbourhoods.random_cells: 1 is not allowed; input should be greater than or equal to 2",
        ),
        (
            {"matched_cells": 1001},
            "neighbourhoods.matched_cells: 1001 is not allowed; input should be less than or equal",
        ),
        ({"draws": 1}, "neighbourhoods.draws: 1 is not allowed; "),
        ({"radius": 2}, "neighbourhoods.radius: unknown key; allowed: accuracies, random_cells, matched_cells, draws"),
    ],
)
def test_wrong_settings_are_one_line_each(raw, table, settings, line):
    (found,) = problems(raw | {"nas_bench_201_table": table, "neighbourhoods": settings})
    assert found.startswith(line)
