"""Several retrainings of one cell, and the images that a search and a retraining see: planned, priced, checked."""

import copy

import pytest
import torch
from small_configuration import problems, put

from midas.estimate import jobs, loads, plan_table
from midas.images.datasets import KNOWN, images_of
from midas.images.halves import search_halves
from midas.plan.check import load
from midas.plan.runs import decisive
from midas.spaces import SPACES

HPS = {f"hp{n}": {"lr": lr, "weight_decay": wd} for n, (lr, wd) in enumerate([(0.1, 1e-4), (0.1, 1e-3)], 2)}


@pytest.fixture
def several(raw):
    put(raw, "experiments.1.retrain_as", "hp1")
    put(raw, "experiments.1.retrain_also", copy.deepcopy(HPS))
    return raw


def names(plan, setting):
    return {"space": "darts", "dataset": "digits", "method": "static", "seed": 1, "setting": setting}


def test_each_setting_changes_what_it_names_and_has_a_folder_of_its_own(several):
    plan = load(several)
    experiment = plan.experiment("darts", "digits")
    assert list(experiment.retrainings()) == ["hp1", "hp2", "hp3"]
    base = plan.resolved("retrain", "darts", "digits", "static", 1)
    assert base.retrain == experiment.retrain == experiment.retrainings()["hp1"]
    run = plan.resolved("retrain", **names(plan, "hp2"))
    assert run.retrain == experiment.retrain.model_copy(update={"lr": 0.1, "weight_decay": 1e-4})
    assert (run.genotype, run.dataset, run.seed) == (base.genotype, base.dataset, base.seed)
    cell = next(cell for cell in plan.cells("darts") if (cell.method, cell.seed) == ("static", 1))
    folders = [
        plan.retrain_folder(cell, name).relative_to(plan.cell_folder(cell)).as_posix() for name in ("hp1", "hp2")
    ]
    assert folders == ["retrain", "retrain_also/hp2"]
    assert len(list(plan.retrained_also())) == 2 * 2 * 2, (
        "methods, seeds, settings; the method of the ablation is not retrained"
    )


def test_a_plan_counts_and_prices_each_of_them(several):
    plan = load(several)
    found = [job for job in jobs(plan) if job.step == "retrain"]
    assert len(found) == 4 + 4 * 3
    assert plan_table(plan, list(jobs(plan)))["retrainings"].tolist() == ["4 = 2 x 2", "12 = 2 x 2 x 3", "16"]
    put(several, "experiments.1.retrain_also.hp2.epochs", 1)
    longer = {job.setting: loads(load(several), job)[0].train for job in jobs(load(several)) if job.step == "retrain"}
    assert longer["hp3"] == 8 * longer["hp2"]


def test_without_the_new_keys_a_run_is_what_it_was(raw):
    plan = load(raw)
    search, retrain = (decisive(plan.resolved(step, "darts", "digits", "static", 0)) for step in ("search", "retrain"))
    assert "first_images" not in search["search"]
    assert "leave_out" not in retrain["retrain"]
    shown = decisive(plan.presented())["config"]["experiments"][1]
    assert not {"retrain_as", "retrain_also", "search_of"} & set(shown)
    put(raw, "experiments.1.retrain_also", {"other": {"lr": 0.5}})
    other = load(raw)
    assert decisive(other.resolved("retrain", "darts", "digits", "static", 0)) == retrain
    assert decisive(other.presented())["config"]["experiments"][1]["retrain_also"] == {"other": {"lr": 0.5}}


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("retrain_also", {"hp1": {}}, "experiments.1.retrain_also: the name 'hp1' is that of the settings of retrain"),
        (
            "retrain_also",
            {"a_checkpoint": {}},
            "experiments.1.retrain_also: the name 'a_checkpoint' is not allowed; that of",
        ),
        ("retrain_also.hp2.lr", -1, "experiments.1.retrain_also.hp2.lr: -1 is not allowed; "),
        ("retrain_also.hp2.cells", 2, "experiments.1.retrain_also.hp2.cells: 2 is not allowed; darts needs at least 3"),
        (
            "retrain_also.hp2.auxiliary",
            0.4,
            "experiments.1.retrain_also.hp2.auxiliary: 0.4 is not allowed on 16x16 images",
        ),
        (
            "retrain_also.hp3.batch_size",
            2000,
            "experiments.1.retrain_also.hp3.batch_size: 2000 is not allowed; digits has",
        ),
        ("retrain_also.hp3.cutout", 32, "experiments.1.retrain_also.hp3.cutout: 32 is not allowed on 16x16 images"),
        (
            "retrain_also.hp3.leave_out",
            10**5,
            "experiments.1.retrain_also.hp3.leave_out: 100000 is not allowed; digits has",
        ),
        ("search.first_images", 10**5, "experiments.1.search.first_images: 100000 is not allowed; digits has"),
        (
            "search.first_images",
            40,
            "experiments.1.search.batch_size: 64 is not allowed; digits has 20 training images",
        ),
        (
            "search_of",
            {"midas": {"first_images": 300}},
            "experiments.1.search_of.midas.first_images: 300 is not allowed",
        ),
    ],
)
def test_a_wrong_one_ends_in_a_line(several, key, value, line):
    put(several, f"experiments.1.{key}", value)
    assert [problem[: len(line)] for problem in problems(several)] == [line]


def test_further_retrainings_need_a_first_one(several):
    del several["experiments"][1]["retrain"]
    assert "experiments.1.retrain_also: not allowed without retrain, whose settings it changes" in problems(several)


def test_the_first_images_are_halved_in_order_and_the_rest_is_left_to_the_retraining(raw):
    """The split of the DARTS-Bench-Suite: 12,500 and 12,500 of the first 25,000; no image is lost between the two."""
    train, valid = search_halves(KNOWN["cifar10"].model_copy(update={"split": "goes behind"}), 50_000, 25_000)
    assert torch.equal(train, torch.arange(12_500))
    assert torch.equal(valid, torch.arange(12_500, 25_000))
    with pytest.raises(ValueError, match="first_images: 60000 is not allowed; cifar10 has 50000 training images"):
        search_halves(KNOWN["cifar10"], 50_000, 60_000)
    count = images_of(KNOWN["digits"])[0]
    put(raw, "experiments.1.search.first_images", 400)
    put(raw, "experiments.1.retrain.leave_out", 400)
    plan = load(raw)
    search, retrain = (
        next(j for j in jobs(plan) if (j.step, j.experiment.space) == (s, "darts")) for s in ("search", "retrain")
    )
    assert loads(plan, search)[0].test == 200
    assert loads(plan, retrain)[0].train == 8 * ((count - 400) // 96 * 96)


def test_midas_and_static_weights_can_be_planned_in_all_nine_spaces_and_a_line_says_what_cannot(raw):
    nine = [name for name, space in SPACES.items() if space.own_networks]
    assert len(nine) == 9
    own = {"channels": 4, "cells": 3, "epochs": 4}
    raw["methods"] |= {"pc": {"weights": "static", "partial": {}}, "lambda": {"weights": "static", "alignment": {}}}
    raw["analysis"] = None
    for name in nine:
        cells = SPACES[name].max_cells or 3
        sizes = own | {"cells": cells}
        experiment = {"space": name, "dataset": "digits", "methods": ["midas", "static"], "search": sizes}
        raw["experiments"] = [experiment | {"retrain": sizes | {"auxiliary": 0}}]
        assert load(raw)
        raw["experiments"][0]["methods"] = ["pc", "lambda"]
        lines = problems(raw) if SPACES[name].beside or cells == 1 else []
        assert any(line.startswith(f"methods.pc.partial: not allowed in {name}") for line in lines) == bool(
            SPACES[name].beside
        )
        assert any(line.startswith(f"methods.lambda.alignment: not allowed in {name}") for line in lines) == (
            cells == 1
        )
    raw["experiments"][0] |= {"dataset": "cifar10", "methods": ["static"]}
    raw["experiments"][0]["retrain"]["auxiliary"] = 0.4
    (line,) = problems(raw)
    assert line.startswith("experiments.0.retrain.auxiliary: 0.4 is not allowed with 1 cells of single_cell_all_skip")
