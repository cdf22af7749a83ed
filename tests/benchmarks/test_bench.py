"""The benchmark: its yardstick computes what the oracle does, its ratios are what they say, README shows the newest table."""

import json
import re
from dataclasses import replace

import pytest
import torch
from places import ROOT
from plain_supernet import PlainSupernet as Oracle

from benchmarks import bench
from benchmarks.bench import LATEST, row, table
from benchmarks.contest.contestants import CELLS, Contestant
from benchmarks.contest.plain import PlainSupernet
from benchmarks.contest.turns import measure
from benchmarks.floor import table as floor_table
from benchmarks.launches import Counting
from benchmarks.launches import table as launches_table
from midas.config.method import Method
from midas.spaces import SPACES

TINY = Contestant("plain", "nas_bench_201", threads=1, batch=4, channels=4, cells=1)


@pytest.mark.parametrize("space", CELLS)
def test_yardstick_equals_the_oracle(space):
    torch.manual_seed(0)
    cells = SPACES[space].min_cells
    yardstick = PlainSupernet(SPACES[space], 4, cells, 5).double()
    oracle = Oracle(SPACES[space], Method(weights="static"), "edge", 4, cells, 5).double()
    with torch.no_grad():
        for mine, theirs in zip(oracle.parameters(), yardstick.parameters(), strict=True):
            mine.copy_(theirs)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(oracle(x), yardstick(x), rtol=1e-10, atol=1e-10)


def test_every_kind_of_contestant_takes_its_turns():
    kinds = [replace(TINY, kind=kind) for kind in ("plain", "pass", "step", "network", "plain_network")]
    found = measure(kinds, repeats=2, warm_up=1)
    assert [len(turns) for turns in found] == [2] * len(kinds)
    assert all(wall > 0 and cpu > 0 and memory >= 0 for turns in found for wall, cpu, memory in turns)


def test_ratios_are_medians_of_pairs_and_targets_are_judged():
    base = [(2.0, 4.0, 100)] * 6 + [(20.0, 40.0, 100)]  # a slow turn of both leaves the ratio as it is
    mine = [(1.0, 1.0, 50)] * 6 + [(10.0, 10.0, 60)]
    found = row("x", mine, base, (0.5, 0.6))
    assert (found["time_ratio"], found["cpu_ratio"], found["memory_ratio"]) == (0.5, 0.25, 0.6)
    assert found["reached"] is True
    assert row("x", mine, base, (0.49, 0.6))["reached"] is False
    assert row("x", mine, base, (0.5, 0.59))["reached"] is False
    assert row("x", mine, base, share=2)["time_ratio"] == 0.25


def test_newest_table_has_every_row_and_stands_in_the_readme():
    found = json.loads(LATEST.read_text())
    names = {r["name"] for r in found["rows"]}
    assert names >= {f"{space}/{part}" for space in CELLS for part in ("cpu/float32", "cpu/best", "midas_vs_static")}
    assert {"date", "processor", "versions"} <= found.keys()
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- benchmarks/latest.json -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert shown is not None
    assert shown[1] == table(found["rows"])
    assert found["processor"] in readme
    assert found["date"][:10] in readme


def test_launches_stand_in_the_documents_as_counted():
    text = (ROOT / "benchmarks/README.md").read_text()
    shown = re.search(r"<!-- benchmarks/launches.json -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert shown is not None
    assert shown[1] == launches_table(json.loads((ROOT / "benchmarks/launches.json").read_text())["rows"])


def test_operations_are_counted_and_views_are_not():
    x = torch.ones(4, 3, requires_grad=True)
    with Counting() as counting:
        torch.empty_like(x).copy_(x.detach().view(12)[:6].unflatten(0, (2, 3)).sum() + 1)
    assert counting.counts == {"sum": 1, "add": 1, "copy_": 1}


def test_floor_and_same_cell_stand_in_the_documents_as_measured():
    text = (ROOT / "benchmarks/README.md").read_text()
    shown = re.search(r"<!-- benchmarks/floor.json -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert shown is not None
    assert shown[1] == floor_table(json.loads((ROOT / "benchmarks/floor.json").read_text())["rows"])
    found = json.loads((ROOT / "benchmarks/same_cell.json").read_text())
    plain, half = (found["ways"][f"fast, {way}"] for way in ("plain", "bfloat16"))
    assert f"{plain['mean']:.3f} on average and {plain['largest']:.3f} at most" in text
    assert f"by {half['mean']:.3f} and {half['largest']:.3f}" in text
    seeds = found["seeds"].values()
    assert max(plain["largest"], half["largest"]) < min(pair["largest"] for pair in seeds)


def test_steps_of_the_fields_methods_are_set_against_torchs_own(monkeypatch):
    asked = []

    def turns(contestants, repeats):
        asked.append(contestants)
        return [[(seconds, seconds, 100)] * repeats for seconds in (2.0, 3.0, 6.0)]

    monkeypatch.setattr(bench, "measure", turns)
    rows = bench.method_rows("cpu", 6, 1)
    names = [r["name"].removeprefix("methods/cpu/") for r in rows]
    assert names[0] == "darts"
    assert {"midas", "darts_2nd", "gdas", "lambda", "a2m", "beta", "drnas", "pc", "oles", "darts_minus"} < {*names}
    assert [(r["time_ratio"], r["step_ratio"]) for r in rows] == [(0.5, 1.5)] * len(names)
    for first, mine, plain in asked:
        assert first.method == Method(weights="static")
        assert (first.fast, mine.fast, plain.fast) == (True, True, False)
        assert replace(plain, fast=True) == mine


@pytest.mark.parametrize("method", [{"partial": {}, "warmup_epochs": 15}, {"gumbel": {}}])
def test_a_step_of_a_method_takes_its_turn_in_both_ways(method):
    mine = replace(TINY, kind="step", method=Method(weights="static", **method), epochs=100)
    assert [len(turns) for turns in measure([mine, replace(mine, fast=False)], repeats=1, warm_up=1)] == [1, 1]
