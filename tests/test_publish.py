"""Reducing results for the repository: what is kept, what is left out, and that the same cell is decoded from it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from places import ROOT

from midas import publish
from midas.analysis.dumps import load_dump
from midas.analysis.tables.making import make
from midas.config.keys import ConfigError
from midas.config.method import Method
from midas.data import prepare
from midas.decode import decode, decode_dump
from midas.plan.check import load
from midas.plan.runs import DataRun, DecodeRun, PresentRun, RetrainRun, SearchRun
from midas.retrain import retrain
from midas.search import search
from midas.spaces import get_space


def write_dump(path, images, pairs):
    """A dump of the DARTS space whose weights are random."""
    space = get_space("darts")
    spec, draw = space.cells["normal"], np.random.default_rng(0)
    shape = 2, len(spec.edges), len(space.operations)
    arrays = {
        "p": draw.random((images, *shape), np.float32),
        "labels": np.arange(images) % 10,
        "classes": np.array([str(k) for k in range(10)]),
        "kinds": np.array(list(space.cells)),
        "operations": np.array(space.operations),
        "edges": np.array(spec.edges),
        "offered": np.ones(shape, bool),
    }
    if pairs:
        arrays["pi"] = draw.random((images, 2, len(spec.pairs)), np.float32)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("images", [1, 2_500, 12_503])
@pytest.mark.parametrize("kept", [publish.IMAGES, publish.FEW])
def test_a_reduced_dump_knows_the_moments_of_all_images_and_gives_the_same_cell(kept, images, pairs, tmp_path):
    whole = write_dump(tmp_path / "arch.npz", images, pairs)
    (tmp_path / "reduced").mkdir()
    publish.reduce_dump(whole, tmp_path / "reduced/arch.npz", kept)
    before, after = load_dump(whole), load_dump(tmp_path / "reduced/arch.npz")
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.std, before.std)
    every = max(1, images // kept)
    assert len(after.p) == len(after.labels) == len(range(0, images, every))
    assert min(images, kept) <= len(after.p) <= 2 * kept
    np.testing.assert_array_equal(after.p, before.p[::every])
    np.testing.assert_array_equal(after.labels, before.labels[::every])
    space = get_space("darts")
    cells = [decode_dump(path, space, Method()) for path in (whole, tmp_path / "reduced/arch.npz")]
    assert cells[0] == cells[1]


def test_many_images_are_kept_of_the_search_that_figure_3_shows_alone(tmp_path):
    raw = minimal(tmp_path) | {"seeds": [3, 4], "analysis": {"space": "nas_bench_201", "dataset": "digits"}}
    raw["analysis"] |= {"method": "midas", "compare": ["midas"]}
    raw["methods"]["no_patch"] = {"weights": "attention", "patch_size": None}
    raw["experiments"][0]["ablation"] = ["no_patch"]
    plan = load(raw)
    kept = {path.relative_to(plan.root).parts[2:4]: images for path, images in publish._dumps(plan)}
    assert kept.pop(("midas", "seed3")) == publish.IMAGES
    assert set(kept) == {("midas", "seed4"), ("no_patch", "seed3"), ("no_patch", "seed4")}
    assert set(kept.values()) == {publish.FEW}


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("in /data2/x-y/z: no", "in z: no"),
        ("split=/Users/a/b.json", "split=b.json"),
        ("'/mnt-a/b', (/c/d/e)", "'b', (e)"),
        ("file:///home/me/x", "file://x"),
        ("PATH:/home/me/x", "PATH:x"),
        ("/opt/my sets/cifar 10/train/1.png", "cifar 10/train/1.png"),  # named by a configuration
        ("/data/1.png /data2", "data/1.png /data2"),
        ("/scratch/u/results/demo/space/x.json", "results/demo/space/x.json"),
    ],
)
def test_places_are_shortened_in_every_kind_of_text(text, shorter, tmp_path):
    places = ["/scratch/u/results", "/opt/my sets/cifar 10", "/data"]
    odd = 'a "quoted", \\ äß\n'
    texts = {
        "a.json": json.dumps({"k": [text, odd, 0.1], text: None}, indent=1),
        "a.csv": f'epoch,path,genotype\n1,"{text}","a, b"\n',
        "a.log": f"--- 2026-01-01 00:00:00 +0000 midas.search x, host node7, job 4\n{text}\n",
    }
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    publish._shorten_texts(tmp_path, places)
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": [shorter, odd, 0.1], shorter: None}
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["epoch", "path", "genotype"], ["1", shorter, "a, b"]]
    assert (tmp_path / "a.log").read_text() == f"--- 2026-01-01 00:00:00 +0000 midas.search x, job 4\n{shorter}\n"
    publish._refuse_paths(tmp_path)


@pytest.mark.parametrize("text", ["epoch 1/8", "../data/x", "data/x/y", "https://a.b/c/d", "within/between", "N/A"])
def test_other_slashes_are_no_folders(text, tmp_path):
    for name, content in (("log.txt", text), ("a.json", json.dumps([text])), ("a.csv", f'"{text}",1\r\n')):
        (tmp_path / name).write_bytes(content.encode())
        publish._shorten_texts(tmp_path, ["/data"])
        assert (tmp_path / name).read_bytes() == content.encode()
    publish._refuse_paths(tmp_path)


def test_what_is_left_is_refused(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/metrics.json").write_text('"path": "/home/me/data"')
    with pytest.raises(
        ValueError, match=r"search/metrics.json: '/home/me/data' is not allowed, and can't be shortened"
    ):
        publish._refuse_paths(tmp_path)


@pytest.fixture
def elsewhere(few_digits, tmp_path, monkeypatch):
    """A finished size whose data, claims and results lie at absolute paths; the current folder is another one."""
    scratch, repository = tmp_path / "scratch/me", tmp_path / "repository"
    scratch.mkdir(parents=True), repository.mkdir()
    data = shutil.copy(few_digits.path, scratch / "123")  # a name that YAML would take for a number
    claims = shutil.copy(ROOT / "config/claims.yaml", scratch / "mine.yaml")
    raw = minimal(scratch / "out") | {"figures_dir": str(scratch / "pictures"), "claims": str(claims)}
    raw |= {"note": f"of {scratch}/notes", "device": "cpu", "datasets": {"own": {"kind": "npz", "path": str(data)}}}
    raw["experiments"][0]["dataset"] = "own"
    plan = load(raw)
    (cell,) = plan.cells()
    folder = plan.cell_folder(cell)
    prepare(DataRun.model_validate_json(plan.run("data", dataset="own")), plan.root / "data/own")
    for name, step in (("search", search), ("decode", decode), ("retrain", retrain)):
        run = plan.run(name, "nas_bench_201", "own", "midas", 0)
        model = {"search": SearchRun, "decode": DecodeRun, "retrain": RetrainRun}[name]
        step(model.model_validate_json(run), folder / name)
    (folder / "search.log").write_text(f"warning: the file system of {folder}/search_checkpoint has no locks\n")
    monkeypatch.chdir(repository)
    return plan, scratch


def test_a_size_whose_places_are_absolute_is_published_without_them_and_redrawn(elsewhere, tmp_path):
    plan, scratch = elsewhere
    before = table_of(plan, tmp_path / "before")
    target = publish.publish(plan)
    assert target == Path("out/published/tiny")
    for path in (path for path in target.rglob("*") if path.is_file() and path.suffix != ".npz"):
        text = path.read_text()
        assert str(tmp_path) not in text, path
        assert "scratch" not in text, path
        if path.suffix == ".json":
            json.loads(text)
    shutil.rmtree(scratch)
    raw = yaml.safe_load((target / "config.yaml").read_text())
    assert (raw["results_dir"], raw["figures_dir"]) == ("out/published", "pictures/published")
    assert raw["datasets"]["own"]["path"] == "123"
    assert raw["note"] == "of notes"
    assert raw["claims"] == "out/published/tiny/claims.yaml"
    published = load(raw)
    assert published.root == target
    run = json.loads((target / "nas_bench_201/own/midas/seed0/retrain/metrics.json").read_text())["config"]
    assert run["dataset"]["path"] == "123"
    assert run["genotype"] == "out/tiny/nas_bench_201/own/midas/seed0/decode/genotype.json"
    assert (
        "of out/tiny/nas_bench_201/own/midas/seed0/search_checkpoint has"
        in next(target.rglob("search.log")).read_text()
    )
    assert table_of(published, tmp_path / "after") == before.replace(str(plan.root), str(target))


def test_a_finished_transfer_is_redrawn_where_its_images_are_not(tmp_path):
    raw = minimal(tmp_path) | {"datasets": {"photos": {"kind": "folder", "path": "photos", "image_size": 64}}}
    raw["experiments"][0] |= {"space": "darts", "search": {"channels": 2, "cells": 3, "epochs": 1}}
    raw["experiments"][0]["retrain"] |= {"cells": 3, "auxiliary": 0.0}
    transfer = {"dataset": "photos", "methods": ["midas"], "image_size": 64, "auxiliary": 0.0}
    raw["experiments"][0]["transfer"] = transfer
    with pytest.raises(ConfigError, match=r"transfer.dataset: data set 'photos': photos does not exist"):
        load(raw)
    done = tmp_path / "tiny/darts/digits/midas/seed0/transfer/metrics.json"
    done.parent.mkdir(parents=True)
    done.write_text("{}")
    assert [cell.seed for cell in load(raw).transfers()] == [0]
    raw["seeds"] = [0, 1]  # the other isn't there
    with pytest.raises(ConfigError, match="photos does not exist"):
        load(raw)


def table_of(plan, folder):
    """The tidy rows of table 1."""
    make(PresentRun(number=1, config=plan.config), folder)
    return (folder / "table_1.csv").read_text()


def test_an_unfinished_size_is_not_published(tmp_path):
    with pytest.raises(ValueError, match=r"genotype.json: missing; the size must be finished"):
        publish.publish(load(minimal(tmp_path)))
    assert not (tmp_path / "published").exists()


def minimal(folder):
    return {
        **{"size": "tiny", "note": "a test", "seeds": [0], "results_dir": str(folder)},
        "methods": {"midas": {"weights": "attention"}},
        "experiments": [
            {
                **{"space": "nas_bench_201", "dataset": "digits", "methods": ["midas"]},
                "search": {"channels": 2, "cells": 1, "epochs": 1},
                "retrain": {"channels": 2, "cells": 1, "epochs": 1},
            }
        ],
    }
