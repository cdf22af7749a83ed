"""The benchmark's table is read after a search alone: nothing that chooses a cell is told of it, or imports what reads it."""

import ast
import re
from pathlib import Path

import pytest
from benchmark_tables import write_whole_table
from places import ROOT

from midas.decode import decode
from midas.plan import runs
from midas.plan.check import load
from midas.spaces import benchmark
from midas.spaces.genotype import load as load_genotype

READERS = {"read_table", "Benchmark", "read_accuracies"}
"""What reads the table, or a part of it."""
CHOOSE = ("search", "decode", "retrain", "transfer", "cost", "data")
"""Steps that find a cell or train one."""
ALLOWED = {"midas.spaces.benchmark", "midas.plan.check"}
"""Where it is defined, and where the configuration is checked before any job: no step asks that module."""


def imported(module, seen):
    """All modules of midas that a module imports, itself included, without importing any."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module in seen or not path.exists():
        return seen
    seen[module] = tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported(node.module, seen)
            for alias in node.names:
                imported(f"{node.module}.{alias.name}", seen)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported(alias.name, seen)
    return {name: tree for name, tree in seen.items() if name.startswith("midas")}


def names(tree):
    """Names of functions and classes that a module asks for."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return found | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("step", CHOOSE)
def test_no_step_that_finds_or_trains_a_cell_imports_what_reads_the_table(step):
    modules = imported(f"midas.{step}", {})
    assert len(modules) > 10
    assert [name for name in modules if "neighbourhoods" in name and name.startswith("midas.analysis")] == []
    assert "midas.plan.check" not in modules
    assert {name for name, tree in modules.items() if READERS & names(tree)} - ALLOWED == set()


@pytest.mark.parametrize("step", ["lookup", "analysis.neighbourhoods.writing"])
def test_the_steps_that_do_read_it_are_found_by_the_same_means(step):
    modules = imported(f"midas.{step}", {})
    assert {name for name, tree in modules.items() if READERS & names(tree)} - ALLOWED


def test_no_step_that_finds_or_trains_a_cell_is_told_where_the_table_lies(raw, tmp_path):
    write_whole_table(tmp_path / "the-table.csv")
    plan = load(raw | {"nas_bench_201_table": str(tmp_path / "the-table.csv"), "neighbourhoods": {}})
    told = [plan.run("data", dataset="digits")]
    for cell in plan.cells():
        place = (cell.experiment.space, cell.experiment.dataset, cell.method, cell.seed)
        told += [plan.run(step, *place) for step in ("search", "decode")]
    assert len(told) > 10
    assert [text for text in told if "the-table" in text] == []
    cell = next(plan.cells("nas_bench_201"))
    assert "the-table" in plan.run("lookup", "nas_bench_201", "digits", cell.method, cell.seed)
    for model in (runs.SearchRun, runs.DecodeRun, runs.RetrainRun, runs.TransferRun, runs.CostRun, runs.DataRun):
        assert "table" not in model.model_fields


def test_a_cell_is_decoded_where_the_table_can_not_be_read(searched, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the table was read")

    monkeypatch.setattr(benchmark, "read_table", refuse)
    monkeypatch.setattr(benchmark, "_read", refuse)
    run = {"space": "nas_bench_201", "method": {"patch_size": 4}, "seed": 0, "dump": str(searched / "arch.npz")}
    decode(runs.DecodeRun.model_validate(run), tmp_path)
    assert load_genotype(tmp_path / "genotype.json").space == "nas_bench_201"


def test_no_rule_that_finds_or_trains_a_cell_waits_for_what_is_read_from_the_table():
    rules = {}
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for name, block in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.DOTALL | re.MULTILINE):
            rules[name] = block
    assert {*CHOOSE, "lookup", "neighbourhood_numbers"} <= rules.keys()
    for name in CHOOSE:
        inputs = re.search(r"^    input:\n(.*?)^    output:", rules[name], re.DOTALL | re.MULTILINE)
        assert not inputs or not re.search("neighbourhood|lookup|table", inputs[1]), name
    inputs = re.search(r"^    input:\n(.*?)^    output:", rules["neighbourhood_numbers"], re.DOTALL | re.MULTILINE)
    assert "decode/genotype.json" in inputs[1]
