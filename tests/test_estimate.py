"""The plan of a configuration before it starts: counted jobs, hours from fake and from real speeds, wrong input."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from places import ROOT

from midas import estimate as module
from midas.config.reading import read_config
from midas.config.settings import Retrain, Transfer
from midas.estimate import Job, hours, hours_table, jobs, loads, main
from midas.images.datasets import KNOWN, images_of
from midas.images.reading import load as load_images
from midas.measuring import timing
from midas.measuring.speed import FEW, STEPS, Setting, Speed, measure, speed_of
from midas.plan.check import load

CPU = torch.device("cpu")
TINY = {
    "size": "tiny",
    "note": "for a test",
    "seeds": [0, 1],
    "device": "cpu",
    "methods": {"midas": {"patch_size": 4}, "random": {"weights": "random"}},
    "experiments": [
        {
            "space": "nas_bench_201",
            "dataset": "digits",
            "methods": ["midas", "random"],
            "search": {"channels": 2, "cells": 1, "epochs": 2},
            "retrain": {"channels": 2, "cells": 1, "epochs": 3, "batch_size": 64, "cutout": 0},
        }
    ],
}


@pytest.fixture
def paper(monkeypatch, tmp_path):
    monkeypatch.delenv("MIDAS_DATA", raising=False)
    return load(read_config(ROOT / "config/paper.yaml", [f"results_dir={tmp_path}"]))


@pytest.fixture
def tiny(tmp_path):
    return load(TINY | {"results_dir": str(tmp_path)})


def run_main(monkeypatch, capsys, *arguments):
    """Exit code, output and errors of the command."""
    monkeypatch.setattr(sys, "argv", ["midas.estimate", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def row(text, *names):
    """Cells of the row of a printed table that starts with some names."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return next(cells[len(names) :] for cells in rows if cells[: len(names)] == list(names))


def test_the_plan_of_the_paper_is_printed_on_a_fresh_clone_without_data(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "MIDAS_DATA"}
    call = [sys.executable, "-m", "midas.estimate", "config/paper.yaml", f"results_dir={tmp_path}", "--no-measure"]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout, "nas_bench_201", "cifar10") == ["40 = 10 x 4", "", "12 = 3 x 4", "", "1"]
    assert row(done.stdout, "darts", "cifar10") == ["40 = 10 x 4", "", "12 = 3 x 4", "8 = 2 x 4", "1"]
    assert row(done.stdout, "s4", "cifar10") == ["8 = 2 x 4", "", "12 = 3 x 4", "", ""]
    assert row(done.stdout, "total", "") == ["120", "0", "84", "8", "2"]
    assert "0 of 214 jobs are done" in done.stdout


def test_with_a_table_cells_of_nas_bench_201_are_looked_up(monkeypatch, capsys, shared_data, tmp_path):
    table = f"nas_bench_201_table={shared_data}/nas_bench_201/nas_bench_201.csv.gz"
    config = ROOT / "config/paper.yaml"
    code, out, _ = run_main(monkeypatch, capsys, config, "--no-measure", table, f"results_dir={tmp_path}")
    assert code == 0
    assert row(out, "nas_bench_201", "cifar10")[:3] == ["40 = 10 x 4", "44 = 11 x 4", ""]
    assert row(out, "total", "") == ["120", "44", "72", "8", "2"]


def test_jobs_that_are_done_are_said_and_not_measured(monkeypatch, capsys, tiny, tmp_path):
    for seed in (0, 1):
        done = tiny.folder("nas_bench_201", "digits", "midas", seed) / "search/metrics.json"
        done.parent.mkdir(parents=True)
        done.write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"results_dir": str(tmp_path)}))
    asked = []
    monkeypatch.setattr(module, "measure", lambda setting, device: asked.append(setting) or Speed(1.0, 0.5, 64))
    code, out, _ = run_main(monkeypatch, capsys, config)
    assert code == 0
    assert row(out, "nas_bench_201", "digits") == ["2 = 1 x 2 (2 done)", "", "4 = 2 x 2", "", ""]
    assert [setting.step for setting in asked] == ["retrain"]
    assert "Hours of the 4 jobs that are left" in out
    assert out.index("Speed on") < out.index("64 s a step of 64 images") < out.index("Hours of")


def test_nothing_is_measured_when_nothing_is_left(monkeypatch, capsys, tiny, tmp_path):
    for step, method in (("search", "midas"), ("retrain", "midas"), ("retrain", "random")):
        for seed in (0, 1):
            done = tiny.folder("nas_bench_201", "digits", method, seed) / step / "metrics.json"
            done.parent.mkdir(parents=True)
            done.write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"results_dir": str(tmp_path)}))
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("measured"))
    code, out, _ = run_main(monkeypatch, capsys, config)
    assert code == 0
    assert "6 of 6 jobs are done" in out


def test_hours_follow_from_seconds_of_an_image_by_the_protocol(paper):
    """Of the DARTS experiment on CIFAR-10: whole batches of an epoch, tests after every epoch, the dump of a search."""
    experiment = paper.experiment("darts", "cifar10")
    expected = {
        "search": 50 * (25_000 // 64 * 64) * 0.01 + 25_000 * 0.001,
        "retrain": 600 * ((50_000 // 96 * 96) * 0.02 + 10_000 * 0.002),
        "transfer": 250 * ((1_281_167 // 1024 * 1024) * 0.04 + 50_000 * 0.004),
    }
    seconds = {"search": (0.01, 0.001), "retrain": (0.02, 0.002), "transfer": (0.04, 0.004)}
    for step in expected:
        found = loads(paper, Job(step, experiment, "midas", done=False))
        speeds = {load.setting: Speed(*seconds[step], 64) for load in found}
        assert hours(found, speeds) == pytest.approx(expected[step] / 3600, rel=1e-12)


def test_epochs_and_evaluations_that_follow_a_search_are_counted(tmp_path, monkeypatch):
    """Of DARTS-PT in the DARTS space: 81 epochs, and the validation half 240 times."""
    monkeypatch.delenv("MIDAS_DATA", raising=False)
    raw = read_config(ROOT / "config/paper.yaml", [f"results_dir={tmp_path}"])
    raw["methods"]["static"]["selection"] = {}
    plan = load(raw)
    (found,) = loads(plan, Job("search", plan.experiment("darts", "cifar10"), "static", done=False))
    assert (found.train, found.test) == ((50 + 81) * (25_000 // 64 * 64), 241 * 25_000)


def test_hours_of_a_measurement_of_cost_are_those_of_its_turns_by_pixels(paper):
    """Static and midas at 16, 32 and 64 pixels, no_patch, and midas with four more patch sizes (one of them ps4's)."""
    found = loads(paper, Job("cost", paper.experiment("darts", "cifar10"), "", done=False))
    speeds = {load.setting: Speed(0.01 if load.setting.method_name == "static" else 0.02, 1e9, 64) for load in found}
    images = 64 * (2 + (1 + 10) * 3)  # for memory two steps, a warm-up and ten turns of three steps each
    resolutions = 0.25 + 1 + 4
    expected = images * (0.01 * resolutions + 0.02 * (resolutions + 1 + 4))
    assert hours(found, speeds) * 3600 == pytest.approx(expected)


def test_a_look_up_takes_no_hours(paper):
    assert loads(paper, Job("lookup", paper.config.experiments[0], "midas", done=False)) == []


def test_settings_that_differ_in_classes_alone_are_measured_once(paper):
    settings = {load.setting for job in jobs(paper) for load in loads(paper, job)}
    counts = {step: sum(setting.step == step for setting in settings) for step in ("search", "retrain", "transfer")}
    # searches: nine and ten methods in the two spaces (another decoding is no other search), two in each of S1 to S4; one
    # retraining a space; CIFAR-100 adds nothing
    assert counts == {"search": 9 + 10 + 4 * 2, "retrain": 6, "transfer": 1}


@pytest.mark.parametrize(
    "change",
    [{"channels": 8}, {"cells": 4}, {"batch_size": 32}, {"precision": "bfloat16"}, {"channels_last": False}],
)
def test_settings_of_other_speed_are_not_mixed_up(paper, change):
    experiment = paper.experiment("darts", "cifar10")
    (plain,) = loads(paper, Job("search", experiment, "midas", done=False))
    other = experiment.model_copy(update={"search": experiment.search.model_copy(update=change)})
    (changed,) = loads(paper, Job("search", other, "midas", done=False))
    assert plain.setting != changed.setting


@pytest.mark.parametrize("name", ["digits", "digit_pairs"])
def test_known_numbers_of_images_are_those_of_the_data(name):
    assert images_of(KNOWN[name]) == tuple(map(len, load_images(KNOWN[name], CPU)))


def test_images_of_a_users_data_set_are_counted(few_digits, tmp_path):
    assert images_of(few_digits) == (200, 50)
    for part, count in (("train", 3), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / part / label / f"{number}.png").touch()
    folder = few_digits.model_copy(update={"kind": "folder", "path": str(tmp_path)})
    assert images_of(folder) == (6, 4)


def test_the_table_of_hours_adds_up(paper):
    left = list(jobs(paper))
    speeds = {load.setting: Speed(0.01, 0.001, 64) for job in left for load in loads(paper, job)}
    table = hours_table(paper, left, speeds).set_index(["space", "data set"])
    steps = ["search", "retrain", "transfer", "cost"]
    assert np.allclose(table[steps].sum(axis=1), table["all"])
    assert np.allclose(table.iloc[:-1][[*steps, "all"]].sum(), table.iloc[-1][[*steps, "all"]].astype(float))
    assert table.loc[("total", ""), "all"] == pytest.approx(sum(hours(loads(paper, job), speeds) for job in left))
    (transfer,) = loads(paper, Job("transfer", paper.experiment("darts", "cifar10"), "midas", done=False))
    assert table.loc[("total", ""), "longest job"] == pytest.approx(hours([transfer], speeds))


def retrain_setting(batch):
    return Setting("retrain", "darts", (32, 32), batch, Retrain(batch_size=batch), 10)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "images"), [(1e-3, 96), (0.03, 64), (0.2, FEW)])
def test_batches_grow_to_the_whole_one_or_until_a_step_takes_a_second(clock, seconds, images):
    sizes = []

    def train(n):
        sizes.append(n)
        clock[0] += seconds * n

    def test(n):
        clock[0] += seconds * n / 4

    found = speed_of(train, test, retrain_setting(96), CPU)
    assert found == Speed(pytest.approx(seconds), pytest.approx(seconds / 4), images, True)
    assert sizes == [n for n in (8, 16, 32, 64, 96) if n <= images for _ in range(1 + STEPS)]


def test_a_batch_that_does_not_fit_is_said(clock):
    def train(n):
        if n > 32:
            raise torch.OutOfMemoryError
        clock[0] += 1e-3 * n

    assert speed_of(train, lambda n: None, retrain_setting(96), CPU) == Speed(pytest.approx(1e-3), 0.0, 32, False)


def test_a_device_without_memory_for_a_few_images_is_refused():
    def train(n):
        raise torch.OutOfMemoryError

    with pytest.raises(ValueError, match="memory doesn't suffice for 8 images"):
        speed_of(train, train, retrain_setting(96), CPU)


def test_searches_and_retrainings_are_measured_and_added_up(monkeypatch, capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"results_dir": str(tmp_path)}))
    code, out, _ = run_main(monkeypatch, capsys, config)
    assert code == 0
    assert "search nas_bench_201 by midas, 16x16 images, cells 1, channels 2: " in out
    search, retrain, transfer, cost, together, longest = map(float, row(out.partition("Hours of")[2], "total", ""))
    assert min(search, retrain) > 0 == transfer == cost
    assert together == pytest.approx(search + retrain, rel=0.02)  # three digits are printed
    assert longest < together


def test_a_transfer_is_measured_with_its_own_network():
    protocol = Transfer(
        dataset="digit_photos", methods=["midas"], image_size=32, channels=2, cells=3, batch_size=8,
        auxiliary=0, precision="float32", mixup=0.2, workers=0,
    )  # fmt: skip
    found = measure(Setting("transfer", "darts", (32, 32), 8, protocol, 10), CPU)
    assert found.train > found.test > 0


WRONG = [
    ("unreadable", [], "can't be read: No such file or directory"),
    ("size: [", [], "not YAML"),
    ("- 1", [], "must be a mapping"),
    (None, ["seeds"], "'seeds' is not allowed; key=value"),
    (None, ["seeds=none"], "seeds: 'none' is not allowed"),
    (None, ["colour=red"], "colour: unknown key; allowed: size, note"),
]


@pytest.mark.parametrize(("text", "changes", "message"), WRONG)
def test_wrong_input_ends_in_one_line(text, changes, message, monkeypatch, capsys, tmp_path):
    config = tmp_path / "config.yaml"
    if text != "unreadable":
        config.write_text(text or yaml.safe_dump(TINY))
    code, out, errors = run_main(monkeypatch, capsys, config, *changes, "--no-measure")
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert message in errors


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_ends_in_one_line_after_the_plan(monkeypatch, capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"device": "cuda", "results_dir": str(tmp_path)}))
    code, out, errors = run_main(monkeypatch, capsys, config)
    assert code == 2
    assert row(out, "total", "") == ["2", "0", "4", "0", "0"]
    assert errors == "error: device: 'cuda' is not allowed; this machine has no usable GPU, use auto or cpu\n"
