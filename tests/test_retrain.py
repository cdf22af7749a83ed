import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from midas.config.settings import Retrain, UserDataset
from midas.images.datasets import resolve
from midas.images.loader import Statistics, in_order
from midas.images.reading import load
from midas.networks.counting import count
from midas.networks.skeletons import build
from midas.plan.runs import RetrainRun
from midas.retrain import retrain
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse
from midas.training import retraining as module
from midas.training.retraining import Retraining as Trainer

OUTPUTS = ("history.csv", "model.safetensors", "metrics.json")
NAS_BENCH_201 = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
CELL = (
    "[('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('avg_pool_3x3', 0), "
    "('skip_connect', 1), ('skip_connect', 3), ('sep_conv_3x3', 2)]"
)
DARTS = f"Genotype(normal={CELL}, normal_concat=[2, 3, 4, 5], reduce={CELL}, reduce_concat=[2, 3, 4, 5])"

SMALL = {
    "channels": 4,
    "cells": 3,
    "epochs": 3,
    "batch_size": 16,
    "lr": 0.1,
    "cutout": 4,
    "auxiliary": 0.0,
    "drop_path": 0.0,
}
ALL_OPTIONS = {"auxiliary": 0.4, "drop_path": 0.3, "label_smoothing": 0.1, "ema": 0.8, "nesterov": True}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Noise on two gray values, which are the classes: 64 training and 40 test images."""
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "gray.npz"
    labels = {"train": np.arange(64) % 2, "test": np.arange(40) % 2}
    pixels = {n: draw.integers(0, 100, (len(y), 32, 32, 3)) + 100 * y[:, None, None, None] for n, y in labels.items()}
    arrays = {f"x_{n}": x.astype(np.uint8) for n, x in pixels.items()} | {f"y_{n}": y for n, y in labels.items()}
    np.savez(path, **arrays)
    return resolve("gray", {"gray": UserDataset(kind="npz", path=str(path))}, None, None)


@pytest.fixture
def make_run(dataset, tmp_path):
    def make(text=NAS_BENCH_201, seed=0, **settings):
        parse(text).save(tmp_path / "genotype.json")
        return RetrainRun(
            genotype=str(tmp_path / "genotype.json"),
            dataset=dataset,
            seed=seed,
            device="cpu",
            threads=1,
            retrain=Retrain(**SMALL | settings),
        )

    return make


def files(folder, *names):
    return [(folder / name).read_bytes() for name in names]


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


FORMS = [pytest.param(NAS_BENCH_201, {}, id="nas_bench_201"), pytest.param(DARTS, ALL_OPTIONS, id="darts")]


@pytest.mark.parametrize(("text", "settings"), FORMS)
def test_same_seed_gives_the_same_files_and_another_seed_others(text, settings, make_run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        retrain(make_run(text, seed, **settings), tmp_path / name)
    a, b, c = (files(tmp_path / name, "history.csv", "model.safetensors") for name in "abc")
    assert a == b
    assert a[0] != c[0]
    assert a[1] != c[1]


@pytest.mark.parametrize(("text", "settings"), FORMS)
@pytest.mark.parametrize("steps", [6, 8])
def test_killed_and_started_again_gives_the_same_files(steps, text, settings, make_run, tmp_path, monkeypatch):
    run = make_run(text, **settings)
    retrain(run, tmp_path / "whole")

    whole_step, taken = Trainer._step, []

    def step(self, x, y):
        if len(taken) == steps:  # in the middle and at the start of an epoch of four steps
            raise KeyboardInterrupt
        taken.append(1)
        return whole_step(self, x, y)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            retrain(run, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    torch.manual_seed(1234)  # the new process knows nothing of the old one's generators
    epochs_before = steps // 4
    repeated = []
    monkeypatch.setattr(
        Trainer,
        "train",
        lambda self, b, epoch, *more, train=Trainer.train: repeated.append(epoch) or train(self, b, epoch, *more),
    )
    retrain(run, tmp_path / "killed")
    assert repeated == list(range(epochs_before, 3))
    assert files(tmp_path / "whole", *OUTPUTS[:2]) == files(tmp_path / "killed", *OUTPUTS[:2])


def test_killed_while_writing_its_outputs_it_writes_them_without_training_again(make_run, tmp_path, monkeypatch):
    run = make_run()
    retrain(run, tmp_path / "a")
    before = files(tmp_path / "a", *OUTPUTS[:2])
    for name in OUTPUTS:
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a_checkpoint/accepted").unlink()  # the last that it writes
    monkeypatch.delattr(Trainer, "train")
    retrain(run, tmp_path / "a")
    assert files(tmp_path / "a", *OUTPUTS[:2]) == before


def test_another_cell_under_the_same_path_starts_anew(make_run, tmp_path, capsys):
    retrain(make_run(), tmp_path / "a")
    run = make_run(NAS_BENCH_201.replace("none", "skip_connect"))
    retrain(run, tmp_path / "a")
    assert "belongs to another run" in capsys.readouterr().err
    retrain(run, tmp_path / "b")
    assert files(tmp_path / "a", *OUTPUTS[:2]) == files(tmp_path / "b", *OUTPUTS[:2])


def test_history_and_metrics_say_the_same(make_run, tmp_path):
    run = make_run(DARTS, **ALL_OPTIONS)
    retrain(run, tmp_path / "a")
    rows, found = history(tmp_path / "a"), metrics(tmp_path / "a")
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["lr"] for row in rows] == pytest.approx([0.1 * (1 + math.cos(math.pi * e / 3)) / 2 for e in range(3)])
    for name in ("test_accuracy", "test_loss", "train_accuracy"):
        assert found[name] == rows[-1][name]
    plain = build(parse(DARTS), 4, 3, 2)
    assert (found["params"], found["multiply_adds"]) == count(plain, (32, 32))
    assert found["epochs"] == 3
    assert found["config"] == run.model_dump(mode="json")
    assert {"provenance", "cost"} < found.keys()


def test_the_folder_of_the_test_images_is_named(make_run, tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b", "val/a"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (32, 32), (number, 200, 9)).save(tmp_path / "own" / name / f"{number}.png")
    own = UserDataset(kind="folder", path=str(tmp_path / "own"), image_size=32)
    run = make_run(epochs=1).model_copy(update={"dataset": resolve("own", {"own": own}, None, None)})
    retrain(run, tmp_path / "a")
    assert metrics(tmp_path / "a")["test_part"] == "test"
    retrain(make_run(epochs=1), tmp_path / "b")
    assert "test_part" not in metrics(tmp_path / "b")


@pytest.mark.parametrize(("text", "settings"), FORMS)
def test_kept_weights_give_the_reported_accuracy(text, settings, make_run, tmp_path):
    run = make_run(text, **settings)
    retrain(run, tmp_path / "a")
    path = tmp_path / "a" / "model.safetensors"
    with safe_open(path, "pt") as file:
        genotype = parse(json.loads(file.metadata()["network"])["genotype"])
    assert genotype == load_genotype(Path(run.genotype))
    network = build(genotype, 4, 3, 2, auxiliary=run.retrain.auxiliary > 0)
    network.load_state_dict(load_file(path))
    network.eval()
    train, test = load(run.dataset, torch.device("cpu"))
    batches = in_order(test, Statistics.of(train), 7)
    hits = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches)
    assert metrics(tmp_path / "a")["test_accuracy"] == 100 * hits / 40


@pytest.mark.parametrize(("text", "settings"), [(NAS_BENCH_201, {}), (DARTS, {"auxiliary": 0.4})])
def test_it_learns(text, settings, make_run, tmp_path):
    retrain(make_run(text, epochs=8, **settings), tmp_path / "a")
    rows = history(tmp_path / "a")
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    assert rows[-1]["test_accuracy"] == 100


@pytest.mark.parametrize(
    "option",
    [{"label_smoothing": 0.2}, {"ema": 0.9}, {"clip": 0.1}, {"nesterov": True}, {"cutout": 0}, {"weight_decay": 0.1}],
)
def test_option_changes_the_numbers(option, make_run, tmp_path):
    retrain(make_run(), tmp_path / "plain")
    retrain(make_run(**option), tmp_path / "changed")
    assert history(tmp_path / "changed")[-1]["test_loss"] != history(tmp_path / "plain")[-1]["test_loss"]


@pytest.mark.parametrize("option", [{"auxiliary": 0.4}, {"drop_path": 0.5}])
def test_option_of_darts_changes_its_numbers_and_no_others(option, make_run, tmp_path):
    for text, differs in ((DARTS, True), (NAS_BENCH_201, False)):
        for name, settings in (("plain", {}), ("changed", option)):
            retrain(make_run(text, epochs=2, **settings), tmp_path / f"{name} {differs}")
        plain, changed = (files(tmp_path / f"{name} {differs}", "history.csv") for name in ("plain", "changed"))
        assert (plain != changed) is differs


def test_every_parameter_is_decayed(make_run):
    run = make_run(weight_decay=0.25)
    trainer = Trainer(build(parse(NAS_BENCH_201), 4, 1, 2), run.retrain, 0)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.25]
    assert len(trainer.optimizer.param_groups[0]["params"]) == len(list(trainer.network.parameters()))


def test_drop_path_grows_from_zero_in_a_line(make_run, tmp_path, monkeypatch):
    probabilities = []
    monkeypatch.setattr(module, "set_drop_path", lambda network, p: probabilities.append(p))
    retrain(make_run(DARTS, epochs=4, drop_path=0.2), tmp_path / "a")
    assert probabilities == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_memory_layout_changes_numbers_by_rounding_only(make_run, tmp_path):
    for layout in (False, True):
        retrain(make_run(epochs=1, channels_last=layout), tmp_path / str(layout))
    a, b = (history(tmp_path / name)[0] for name in ("False", "True"))
    assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)


def test_bfloat16_stays_near_float32(make_run, tmp_path):
    for precision in ("float32", "bfloat16"):
        retrain(make_run(epochs=1, precision=precision), tmp_path / precision)
    a, b = (history(tmp_path / name)[0] for name in ("float32", "bfloat16"))
    assert a["train_loss"] != b["train_loss"]
    assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.05)


def test_diverged_training_ends_with_its_epoch_and_without_outputs(make_run, tmp_path):
    with pytest.raises(ValueError, match=r"loss is not finite at step \d of epoch 1"):
        retrain(make_run(lr=1e30, clip=0), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not list((tmp_path / "a_checkpoint").glob("*.pt"))


def test_batch_larger_than_the_data_is_refused(make_run, tmp_path):
    with pytest.raises(ValueError, match="batch_size: 65 is not allowed"):
        retrain(make_run(batch_size=65), tmp_path / "a")


def test_images_that_are_left_out_are_not_trained_on(make_run, dataset, tmp_path):
    """The same as a data set without them."""
    with np.load(dataset.path) as file:
        arrays = dict(file)
    arrays |= {name: arrays[name][16:] for name in ("x_train", "y_train")}
    np.savez(tmp_path / "fewer.npz", **arrays)
    fewer = dataset.model_copy(update={"path": str(tmp_path / "fewer.npz")})
    runs = [make_run(leave_out=16), make_run().model_copy(update={"dataset": fewer}), make_run()]
    for number, run in enumerate(runs):
        retrain(run, tmp_path / str(number))
    first, second, whole = ((tmp_path / f"{number}/history.csv").read_text() for number in range(3))
    assert first == second != whole
