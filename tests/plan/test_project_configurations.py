"""The configurations that come with the project load."""

import pytest
import yaml
from places import ROOT
from small_configuration import problems, runs

from midas.config.reading import read_config
from midas.plan.check import load

pytestmark = pytest.mark.usefixtures("no_data_of_this_machine")


def size_files():
    return [
        path
        for path in sorted((ROOT / "config").glob("*.yaml"))
        if "experiments" in (yaml.safe_load(path.read_text()) or {})
    ]


@pytest.mark.parametrize("path", size_files(), ids=lambda path: path.name)
def test_the_configurations_of_the_project_load(path, tmp_path, data_root, request):
    raw = yaml.safe_load(path.read_text()) | {"results_dir": str(tmp_path / "results")}
    if not {experiment["dataset"] for experiment in raw["experiments"]} <= {"digits", "digit_pairs"}:
        benchmark = request.getfixturevalue("shared_data") / "nas_bench_201"
        raw["data_root"] = str(data_root)
        raw["nas_bench_201_table"] = str(benchmark / "nas_bench_201.csv.gz")
        raw["cifar10_split"] = str(benchmark / "splits/cifar-split.json.gz")
    plan = load(raw)
    assert list(plan.cells()) or plan.config.functions
    assert plan.config.paper_protocol == (path.name == "paper.yaml")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("results/published/*/config.yaml")), ids=lambda path: path.parent.name
)
def test_the_published_configurations_load_without_data_and_table(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MIDAS_DATA", "nowhere")
    assert load(read_config(path, [])).config.note


def test_the_demo_needs_no_data(tmp_path):
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"results_dir": str(tmp_path)}
    assert all(not run["dataset"]["download"] for run in runs(load(raw), "search"))


def test_cifar10_on_two_cores_says_what_it_needs(data_root):
    raw = yaml.safe_load((ROOT / "config/cifar10_cpu.yaml").read_text()) | {"results_dir": "nowhere"}
    assert problems(raw | {"data_root": str(data_root)}) == [
        "experiments.0.retrain: missing; cells of nas_bench_201 on cifar10 must be trained (no table is named)"
    ]
