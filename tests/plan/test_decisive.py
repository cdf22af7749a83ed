"""Which keys of a run decide its numbers; and runs begun elsewhere, which are refused before any job."""

import json
import shutil

import pytest
import yaml
from places import ROOT
from two_classes import CELL, configuration, interrupt, two_classes

from midas.config import protocols
from midas.config.keys import ConfigError
from midas.config.method import ADDED
from midas.config.settings import Search
from midas.plan.check import load
from midas.plan.runs import CostRun, SearchRun, decisive
from midas.search import search


@pytest.mark.parametrize("step", ["search", "retrain"])
def test_places_and_machines_decide_no_number(step, tmp_path):
    two_classes(tmp_path / "two.npz")
    two_classes(tmp_path / "other/two.npz")

    def decides(**changes):
        raw = configuration(tmp_path, **changes)
        return decisive(load(raw).resolved(step, "nas_bench_201", "two", "midas", 0))

    moved = {"two": {"kind": "npz", "path": str(tmp_path / "other/two.npz"), "flip": False, "padding": 0}}
    assert decides() == decides(
        threads=2, device="auto", go_on_elsewhere=True, datasets=moved, results_dir=str(tmp_path / "r")
    )
    assert decides() != decides(datasets={"two": moved["two"] | {"flip": True}})


def test_workers_decide_no_number_of_a_transfer_and_processes_do():
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    transfers = []
    for change in ({}, {"workers": 1}, {"gpus": 2}):
        (experiment,) = (e for e in raw["experiments"] if "transfer" in e)
        experiment["transfer"] |= change
        transfers.append(
            decisive(load(raw).resolved("transfer", experiment["space"], experiment["dataset"], "midas", 0))
        )
    assert transfers[0] == transfers[1] != transfers[2]


def test_other_threads_are_refused_before_any_job_and_allowed_by_a_key(steps, tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    raw = configuration(tmp_path)
    plan, folder = load(raw), tmp_path / CELL / "search"
    run = plan.resolved("search", "nas_bench_201", "two", "midas", 0)
    interrupt(run, folder, 4, monkeypatch)
    assert load(raw)
    with pytest.raises(ConfigError) as refused:
        load(raw | {"threads": 2})
    (line,) = refused.value.problems
    assert line.startswith(f"threads: 2 is not allowed; {folder}_checkpoint was begun with 1; ")
    assert "go_on_elsewhere" in line
    with pytest.raises(ValueError, match="was begun elsewhere: threads: 1 there, 2 now"):
        search(run.model_copy(update={"threads": 2}), folder)
    assert load(configuration(tmp_path, threads=2, seeds=[1]))  # another search doesn't mind
    other = load(raw | {"threads": 2, "go_on_elsewhere": True}).resolved("search", "nas_bench_201", "two", "midas", 0)
    steps.clear()
    search(other, folder)
    assert len(steps) == 3  # of 6: an epoch of 3 was kept
    cost = json.loads((folder / "metrics.json").read_text())["cost"]
    assert cost["resumed_at"] == ["epoch 2, step 1 (threads: 1 there, 2 now)"]
    assert load(raw)  # what is finished stays, whatever it was made with


def test_a_finished_run_whose_outputs_were_deleted_may_be_made_anew_with_other_threads(tmp_path):
    two_classes(tmp_path / "two.npz")
    raw, folder = configuration(tmp_path), tmp_path / CELL / "search"
    search(load(raw).resolved("search", "nas_bench_201", "two", "midas", 0), folder)
    shutil.rmtree(folder)
    assert load(raw | {"threads": 2})


def test_another_device_is_refused_before_any_job(tmp_path, monkeypatch):
    two_classes(tmp_path / "two.npz")
    raw = configuration(tmp_path)
    folder = tmp_path / CELL / "search"
    interrupt(load(raw).resolved("search", "nas_bench_201", "two", "midas", 0), folder, 4, monkeypatch)
    assert load(raw | {"device": "auto"})
    with pytest.raises(ConfigError, match=r"device: 'cuda' is not allowed; .* was begun with 'cpu'"):
        load(raw | {"device": "cuda"})


def test_keys_that_came_later_decide_nothing_where_they_change_nothing(tmp_path):
    two_classes(tmp_path / "two.npz")
    plain = load(configuration(tmp_path)).resolved("search", "nas_bench_201", "two", "midas", 0)
    found = decisive(plain)
    assert not ADDED.keys() & found["method"].keys()
    other = plain.model_copy(update={"method": plain.method.model_copy(update={"normalise": "length"})})
    assert decisive(other)["method"] == found["method"] | {"normalise": "length"}


def test_settings_of_a_search_that_came_later_decide_nothing_where_they_change_nothing(tmp_path):
    two_classes(tmp_path / "two.npz")
    plain = load(configuration(tmp_path)).resolved("search", "nas_bench_201", "two", "midas", 0)
    found = decisive(plain)["search"]
    assert not protocols.ADDED.keys() & found.keys()
    spelt = plain.search.model_dump() | {"nesterov": True, "order": "weights_first", "protocol": "A50"}
    other = plain.model_copy(update={"search": Search.model_validate(spelt)})
    assert decisive(other)["search"] == found | {"nesterov": True, "order": "weights_first"}


def test_a_run_that_was_told_before_there_was_a_key_is_what_it_was(tmp_path):
    two_classes(tmp_path / "two.npz")
    now = load(configuration(tmp_path)).resolved("search", "nas_bench_201", "two", "midas", 0)
    told = json.loads(now.model_dump_json())
    for key in ADDED:
        del told["method"][key]
    then = SearchRun.model_validate(told)
    assert {key: getattr(then.method, key) for key in ADDED} == ADDED
    shared = {key: told[key] for key in ("space", "dataset", "seed", "device", "threads", "search")}
    methods = dict.fromkeys(("midas", "static"), told["method"])
    cost = CostRun.model_validate({**shared, "methods": methods, "cost": {"baseline": "static", "methods": ["midas"]}})
    assert all({key: getattr(method, key) for key in ADDED} == ADDED for method in cost.methods.values())
