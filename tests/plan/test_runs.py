"""What a step is told follows from the configuration, and so do tables and figures."""

import json

from small_configuration import COST, TRANSFER, runs, write_table

from midas.images.datasets import KNOWN
from midas.plan.check import load
from midas.plan.runs import DecodeRun, LookupRun, RetrainRun, SearchRun


def test_every_search_is_planned_once(raw):
    plan = load(raw)
    found = [(c.experiment.space, c.method, c.seed) for c in plan.cells()]
    methods = {"nas_bench_201": ["midas", "static"], "darts": ["midas", "static", "no_patch"]}
    assert found == [(space, method, seed) for space in methods for method in methods[space] for seed in (0, 1)]
    assert [c.method for c in plan.cells("darts", evaluated=True)] == ["midas", "midas", "static", "static"]
    folders = {plan.cell_folder(c) for c in plan.cells()}
    assert len(folders) == len(found)
    assert plan.root / "darts/digits/no_patch/seed1" in folders


def test_a_run_is_complete_and_reads_back(raw):
    plan = load(raw)
    for cell, text in zip(plan.cells(), runs(plan, "search"), strict=True):
        run = SearchRun.model_validate(text)
        assert run.method == plan.config.methods[cell.method]
        assert run.search == cell.experiment.search
        assert (run.space, run.seed, run.dataset) == (cell.experiment.space, cell.seed, KNOWN["digits"])
    folder = plan.folder("darts", "digits", "midas", 1)
    names = ("darts", "digits", "midas", "1")
    assert DecodeRun.model_validate_json(plan.run("decode", *names)).dump == str(folder / "search/arch.npz")
    retrain = RetrainRun.model_validate_json(plan.run("retrain", *names))
    assert retrain.genotype == str(folder / "decode/genotype.json")
    assert (retrain.seed, retrain.retrain) == (1, plan.config.experiments[1].retrain)


def test_a_search_run_has_nothing_that_does_not_change_its_numbers(raw):
    """Other experiments, paths and figures leave a run as it is, hence don't repeat it."""
    before = runs(load(raw), "search")[:4]
    raw |= {"note": "another", "figures_dir": "elsewhere", "analysis": None}
    raw["experiments"] = raw["experiments"][:1]
    assert runs(load(raw), "search") == before


def test_tables_and_figures_follow_from_the_experiments(raw):
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([1, 2, 5], [1, 2, 3, 4, 5, 6, 12])
    raw |= {"analysis": None, "experiments": raw["experiments"][1:]}
    del raw["experiments"][0]["ablation"]
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([2], [6])
    raw["experiments"][0] |= {"space": "s3", "transfer": TRANSFER, "cost": COST}
    plan = load(raw)
    assert (plan.tables(), plan.figures()) == ([3, 4, 6], [10])


def test_searches_alone_need_no_retraining(raw):
    experiment = raw["experiments"][1]
    del experiment["retrain"]
    raw["experiments"] = [experiment | {"methods": [], "ablation": ["midas", "static", "no_patch"]}]
    plan = load(raw)
    assert len(runs(plan, "search")) == 3 * len(raw["seeds"])
    assert not list(plan.cells(evaluated=True))
    assert (plan.tables(), plan.figures()) == ([5], [1, 2, 3, 4, 5])


def test_lookup_runs_name_their_files(raw, tmp_path):
    write_table(tmp_path / "t.csv")
    plan = load(raw | {"nas_bench_201_table": str(tmp_path / "t.csv"), "nas_bench_201_cells": 1})
    run = LookupRun.model_validate_json(plan.run("lookup", "nas_bench_201", "digits", "static", 0))
    folder = plan.folder("nas_bench_201", "digits", "static", 0)
    assert (run.genotype, run.history) == (str(folder / "decode/genotype.json"), str(folder / "search/history.csv"))


def test_random_cells_are_decoded_and_evaluated_and_never_searched(raw):
    raw["methods"]["random"] = {"weights": "random"}
    raw["experiments"][1]["methods"].append("random")
    plan = load(raw)
    assert "random" in {cell.method for cell in plan.cells("darts", evaluated=True)}
    assert "random" not in {cell.method for cell in plan.cells("darts", searched=True)}
    assert json.loads(plan.run("decode", "darts", "digits", "random", 1)) | {"method": None} == {
        "space": "darts",
        "method": None,
        "seed": 1,
        "dump": None,
    }
