"""The step search: settings that change nothing or little, what it writes, and that it learns."""

import json
import math

import numpy as np
import pytest
import torch
from searching import CPU, METHODS, finished, history_of, numbers, supernet_as_drawn
from sklearn.linear_model import LogisticRegression

from midas.decode import decode
from midas.images.datasets import KNOWN
from midas.images.reading import load
from midas.plan.runs import DecodeRun, RetrainRun
from midas.retrain import retrain
from midas.search import search
from midas.spaces import get_space
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse


def test_both_memory_layouts_search_the_same(search_run, tmp_path):
    rows = [
        history_of(finished(search_run(epochs=1, channels_last=last), tmp_path / str(last)))[0]
        for last in (True, False)
    ]
    for name in ("train_loss", "valid_loss", "entropy", "p_none"):
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=1e-3)


@pytest.mark.parametrize("way", [{"precision": "bfloat16"}, {"merge_edges": True}, {"fast": False}], ids=str)
def test_every_setting_is_deterministic_on_a_cpu(way, search_run, tmp_path):
    dumps = [np.load(finished(search_run(epochs=1, **way), tmp_path / name) / "arch.npz") for name in ("a", "b")]
    np.testing.assert_array_equal(dumps[0]["p"], dumps[1]["p"])


@pytest.mark.parametrize("space", ["nas_bench_201", "darts"])
def test_fast_and_plain_ways_search_the_same(space, search_run, tmp_path):
    cells = 1 if space == "nas_bench_201" else 3
    rows = [
        history_of(finished(search_run(space=space, cells=cells, epochs=1, fast=fast), tmp_path / str(fast)))[0]
        for fast in (True, False)
    ]
    for name in ("train_loss", "valid_loss", "entropy", "p_skip_connect"):
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=1e-3)


def test_mixed_precision_searches_about_the_same(searched, search_run, tmp_path):
    folder = finished(search_run(epochs=1, precision="bfloat16"), tmp_path)
    half, whole = float(history_of(folder)[0]["train_loss"]), float(history_of(searched)[0]["train_loss"])
    assert half == pytest.approx(whole, rel=0.03)
    assert half != whole
    np.testing.assert_allclose(np.load(folder / "arch.npz")["p"].sum(-1), 1, atol=1e-5)


def test_frozen_projections_stay_as_they_were_drawn(search_run, tmp_path):
    run = search_run(method=METHODS["frozen"], seed=3)
    folder = finished(run, tmp_path)
    drawn, found = supernet_as_drawn(run).state_dict(), supernet_as_drawn(run, folder).state_dict()
    mixing = {name for name in drawn if ".mixing." in name}
    assert len(mixing) == 3 * 3 * 2  # W_Q and W_K of three nodes in three cells
    assert {name for name in drawn if torch.equal(drawn[name], found[name])} == mixing
    assert numbers(folder)["architecture_params"] == 0
    assert len(np.load(folder / "arch.npz")["p"]) == 100


def test_learned_projections_do_not(searched, search_run):
    run = search_run()
    drawn, found = supernet_as_drawn(run).state_dict(), supernet_as_drawn(run, searched).state_dict()
    assert not [name for name in drawn if torch.equal(drawn[name], found[name])]


@pytest.mark.parametrize("method", [{"patch_size": 4}, {"weights": "static"}], ids=str)
@pytest.mark.parametrize("epochs", [1, 2])
def test_while_the_weights_warm_up_the_architecture_stays_as_drawn(method, epochs, search_run, tmp_path):
    run = search_run(epochs=epochs, method={**method, "warmup_epochs": 1})
    folder = finished(run, tmp_path)
    drawn, found = supernet_as_drawn(run).state_dict(), supernet_as_drawn(run, folder).state_dict()
    same = {name for name in drawn if torch.equal(drawn[name], found[name])}
    assert same == ({name for name in drawn if ".mixing." in name} if epochs == 1 else set())
    assert float(history_of(folder)[0]["entropy"]) > 0


def test_weights_to_decode_are_computed_in_batches_of_their_own(searched, search_run, tmp_path):
    folder = finished(search_run(method={"patch_size": 4, "decode_batch": 50}), tmp_path)
    assert (folder / "history.csv").read_bytes() == (searched / "history.csv").read_bytes()  # the search is the same
    p, usual = (np.load(path / "arch.npz")["p"] for path in (folder, searched))
    assert p.shape == usual.shape
    assert 0 < np.abs(p - usual).max() < 0.1


# --- what a search writes


@pytest.mark.parametrize("weights", ["static", "attention"])
def test_a_search_of_darts_with_none_as_it_was_published(search_run, tmp_path, weights):
    """Eight operations share the softmax, in the history as in the dump; none is decoded, by the epoch or by the end."""
    run = search_run("darts", method={"weights": weights, "patch_size": 4, "offer_none": True})
    folder = finished(run, tmp_path)
    (row,) = history_of(folder)
    names = [name.removeprefix("p_") for name in row if name.startswith("p_")]
    assert names == ["none", *get_space("darts").operations]
    assert 0 < float(row["p_none"]) < 1
    with np.load(folder / "arch.npz") as dump:
        assert dump["operations"].tolist() == names
        assert dump["offered"].all()
        if weights == "static":
            np.testing.assert_allclose(dump["p"].sum(-1), 1, rtol=1e-5)
    decode(DecodeRun(space="darts", method=run.method, seed=0, dump=str(folder / "arch.npz")), tmp_path / "decode")
    found = load_genotype(tmp_path / "decode/genotype.json")
    assert "none" not in str(found) + row["genotype"]
    for kind in found.cells:
        assert all(operation in names for *_, operation in found.edges(kind))


def test_history_has_a_row_for_each_epoch(searched, search_run):
    rows, operations = history_of(searched), get_space("nas_bench_201").operations
    columns = ["epoch", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "entropy"]
    assert list(rows[0]) == [*columns, *(f"p_{name}" for name in operations), "genotype"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in operations) == pytest.approx(1, abs=1e-5)
        assert str(parse(row["genotype"])) == row["genotype"]
        assert 0 < float(row["entropy"]) <= math.log(5) + 1e-6
        assert 0 <= float(row["train_accuracy"]) <= 100
    assert numbers(searched)["train_accuracy"] == float(rows[-1]["train_accuracy"])
    assert numbers(searched)["decoded_epoch"] == len(rows)


def test_metrics_count_parameters_and_images(searched, search_run):
    supernet = supernet_as_drawn(search_run())
    found = numbers(searched)
    # W_Q: d x (edges C), W_K: d x C, for nodes with one, two and three edges and d = C = 4, 8, 16
    architecture = sum(c * c * (edges + 1) for c in (4, 8, 16) for edges in (1, 2, 3))
    assert found["architecture_params"] == architecture
    assert found["weights_params"] == sum(p.numel() for p in supernet.parameters()) - architecture
    assert (found["epochs"], found["images"]) == (3, 100)


@pytest.mark.parametrize("name", ["frozen", "static"])
def test_metrics_have_the_norm_of_the_architecture_as_drawn_and_after_each_epoch(name, search_run, tmp_path):
    run = search_run(method=METHODS[name])
    folder = finished(run, tmp_path)
    norms = numbers(folder)["architecture_norms"]
    assert len(norms) == run.search.epochs + 1
    if name == "frozen":
        assert norms == [0.0] * len(norms)  # nothing is learned
        return
    drawn, found = supernet_as_drawn(run), supernet_as_drawn(run, folder)
    for norm, supernet in ((norms[0], drawn), (norms[-1], found)):
        whole = torch.cat([p.flatten() for p in supernet.architecture_parameters()]).norm()
        assert norm == pytest.approx(float(whole.detach()), rel=1e-6)


# --- it learns


@pytest.fixture(scope="module")
def learned(search_run, tmp_path_factory):
    """Folder of a search on all digits: 8 channels, one cell a stage, 6 epochs."""
    folder = tmp_path_factory.mktemp("learned") / "search"
    search(search_run(dataset=KNOWN["digits"], channels=8, epochs=6, batch_size=64, arch_lr=0.003), folder)
    return folder


def test_a_search_learns(learned):
    rows = history_of(learned)
    assert float(rows[0]["train_accuracy"]) < 30
    assert float(rows[-1]["train_accuracy"]) > 50
    assert float(rows[-1]["valid_accuracy"]) > 50
    assert numbers(learned)["valid_accuracy"] > 50


def test_attention_learns_to_tell_operations_apart(learned):
    rows = history_of(learned)
    assert float(rows[-1]["entropy"]) < float(rows[0]["entropy"]) < math.log(5)


def test_the_found_cell_beats_a_linear_classifier(learned, tmp_path):
    """Found without "none": after so short a search half of the seeds else decode a cell that is cut off from its input."""
    method = {"patch_size": 4, "decode_none": False}
    run = DecodeRun(space="nas_bench_201", method=method, seed=0, dump=str(learned / "arch.npz"))
    decode(run, tmp_path / "decode")
    protocol = {"channels": 8, "cells": 1, "epochs": 10, "batch_size": 64, "lr": 0.1, "nesterov": True}
    protocol |= {"weight_decay": 5e-4, "cutout": 0}
    training = {"dataset": KNOWN["digits"], "seed": 0, "device": "cpu", "threads": 1, "retrain": protocol}
    retrain(RetrainRun(genotype=str(tmp_path / "decode/genotype.json"), **training), tmp_path / "retrain")
    found = json.loads((tmp_path / "retrain/metrics.json").read_text())["test_accuracy"]
    (x, y), (u, v) = ((part.pixels.flatten(1).double() / 255, part.labels) for part in load(KNOWN["digits"], CPU))
    linear = 100 * LogisticRegression(max_iter=1000).fit(x, y).score(u, v)
    assert linear > 90
    assert found > linear
