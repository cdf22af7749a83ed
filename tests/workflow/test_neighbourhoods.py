"""The target neighbourhoods: what it waits for, and that nothing else of it is planned unless it is asked for."""

import os
import re
import subprocess
import sys

import pytest
from benchmark_tables import write_whole_table
from places import ROOT


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "t.csv"
    write_whole_table(path)
    return path


def test_it_waits_for_the_searches_of_nas_bench_201_alone_and_trains_nothing(table, tmp_path):
    places = [f"results_dir={tmp_path}/results", f"figures_dir={tmp_path}/figures", f"nas_bench_201_table={table}"]
    call = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--nocolor", "--configfile", "config/test.yaml"]
    call += ["--config", *places, "neighbourhoods={}", "--", "neighbourhoods"]
    environment = {key: value for key, value in os.environ.items() if key != "MIDAS_DATA"}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}
    found = counts.pop("search")
    assert counts.pop("decode") == found > 1
    shown = dict.fromkeys(("data", "neighbourhood_numbers", "table_s2", "figure_s2", "neighbourhoods"), 1)
    assert counts == shown | {"total": 2 * found + len(shown)}
    assert set(re.findall(r"Job \d+: search: (\w+) on", done.stdout + done.stderr)) == {"nas_bench_201"}


def test_table_and_figure_are_redrawn_without_what_reads_the_table_of_the_benchmark():
    """An input that names a rule would have Snakemake run it whatever rules are allowed."""
    text = (ROOT / "workflow/rules/neighbourhoods.smk").read_text()
    for rule in ("table_s2", "figure_s2"):
        inputs = re.search(rf"^rule {rule}:\n    input:\n(.*?)^    output:", text, re.DOTALL | re.MULTILINE)[1]
        assert inputs.strip() == "NEAR,"
