"""What is known of data without reading them: their contents, wherever they lie."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import yaml
from PIL import Image
from places import ROOT
from two_classes import configuration, two_classes

from midas.config.keys import parse
from midas.config.settings import UserDataset
from midas.images import contents
from midas.images.datasets import bytes_in_memory, resolve
from midas.images.npz import Npz
from midas.plan.check import load
from midas.plan.plan import Plan


def test_an_npz_is_known_by_the_check_sums_of_its_arrays_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Npz, "images", None)
    two_classes(tmp_path / "a/two.npz")
    shutil.copy(tmp_path / "a/two.npz", tmp_path / "moved.npz")
    two_classes(tmp_path / "b/two.npz", shuffled=True)

    def digest(path):
        dataset = resolve("two", {"two": UserDataset(kind="npz", path=str(path))}, None, None)
        assert (dataset.classes, dataset.image) == (2, (16, 16))
        assert bytes_in_memory(dataset) == 240 * 3 * 16 * 16
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest(tmp_path / "a/two.npz")
    assert first == digest(tmp_path / "moved.npz")
    assert first != digest(tmp_path / "b/two.npz")


def photos(folder):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                image = np.full((4, 4, 3), 10 * number + (label == "dog"), np.uint8)
                Image.fromarray(image).save(folder / part / label / f"{number}.bmp")
    return folder


def test_a_folder_is_known_by_what_its_files_hold(tmp_path, monkeypatch):
    own = photos(tmp_path / "photos")

    def digest(path):
        dataset = resolve("own", {"own": UserDataset(kind="folder", path=str(path), image_size=8)}, None, None)
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest(own)
    os.utime(own / "train/cat/0.bmp", (1, 1))
    assert digest(own) == first
    moved = own.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(contents, "of_images", None)  # times that are known aren't read again
    assert digest(moved) == first
    monkeypatch.undo()
    before = (moved / "train/cat/0.bmp").stat().st_size
    shutil.copy(moved / "train/cat/2.bmp", moved / "train/cat/0.bmp")
    assert (moved / "train/cat/0.bmp").stat().st_size == before
    assert digest(moved) != first


def test_folders_of_classes_that_change_places_are_noticed(tmp_path):
    own = photos(tmp_path / "photos")
    for file in own.rglob("*.bmp"):
        os.utime(file, (1, 1))

    def digest():
        dataset = resolve("own", {"own": UserDataset(kind="folder", path=str(own), image_size=8)}, None, None)
        return contents.of_dataset(dataset, tmp_path / "data")

    first = digest()
    for name, other in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (own / "train" / name).rename(own / "train" / other)
    assert digest() != first


def test_index_lists_and_tables_are_known_by_what_they_hold(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [0, 1], "valid": [2, 3]}')
    first = contents.of_file(str(tmp_path / "split.json"))
    shutil.copy(tmp_path / "split.json", tmp_path / "moved.json")
    assert contents.of_file(str(tmp_path / "moved.json")) == first
    (tmp_path / "split.json").write_text('{"train": [0, 2], "valid": [1, 3]}')
    assert contents.of_file(str(tmp_path / "split.json")) != first


def test_what_a_step_doesnt_read_is_no_reason_to_run_it_again(tmp_path):
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/data_batch_1").touch()
    split, table = tmp_path / "split.json", tmp_path / "table.csv"
    raw |= {"data_root": str(tmp_path), "cifar10_split": str(split), "nas_bench_201_table": str(table)}
    raw["experiments"] = [next(e for e in raw["experiments"] if e["space"] == "nas_bench_201") | {"dataset": "cifar10"}]
    plan = Plan(parse(raw | {"analysis": None}))

    def digests():
        steps = ("data", "search", "cost", "retrain", "lookup")
        return {step: plan.contents(step, "nas_bench_201", "cifar10") for step in steps}

    split.write_text('{"train": [0, 1], "valid": [2, 3]}')
    table.write_text("index,arch")
    before = digests()
    split.write_text('{"train": [0, 2], "valid": [1, 3]}')
    assert {step for step, digest in digests().items() if digest != before[step]} == {"search", "cost"}
    table.write_text("index,arch,more")
    assert {step for step, digest in digests().items() if digest != before[step]} == {"search", "cost", "lookup"}


def test_a_folder_for_a_transfer_is_looked_at_unless_it_is_too_large(tmp_path):
    photos(tmp_path / "photos")
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    own = {"kind": "folder", "path": str(tmp_path / "photos"), "image_size": 64}
    (experiment,) = (e for e in raw["experiments"] if "transfer" in e)
    experiment["transfer"] |= {"dataset": "own"}
    raw |= {
        "datasets": {"own": own},
        "results_dir": str(tmp_path / "results"),
        "experiments": [experiment],
        "analysis": None,
    }

    def digest(**changes):
        plan = Plan(parse(raw | changes))
        return plan.contents("transfer", experiment["space"], experiment["dataset"]), plan.contents(
            "data", dataset="own"
        )

    assert digest() == (digest()[0],) * 2 != ("", "")
    assert digest(open_images=False) == ("", "")


def test_a_job_asks_for_memory_by_the_size_of_its_images(tmp_path):
    x = np.zeros((2_000, 32, 32, 3), np.uint8)
    np.savez_compressed(
        tmp_path / "two.npz", x_train=x, y_train=np.arange(2_000) % 2, x_test=x[:1000], y_test=np.zeros(1000, int)
    )
    plan = load(configuration(tmp_path))
    assert plan.megabytes("two") == -(-3_000 * 32 * 32 * 3 // 10**6) == 10
    assert load(yaml.safe_load((ROOT / "config/config.yaml").read_text())).megabytes("digits") == 0


# --- large data


def test_the_data_step_holds_the_images_once(tmp_path):
    def peak(count):
        path, folder = tmp_path / f"{count}.npz", tmp_path / str(count)
        x, y = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 2
        np.savez_compressed(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
        own = {"two": {"kind": "npz", "path": str(path)}}
        plan = Plan(load(configuration(tmp_path, datasets=own)).config)
        call = [sys.executable, "-m", "midas.data", plan.run("data", dataset="two"), folder]
        subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
        return json.loads((folder / "metrics.json").read_text())["cost"]["peak_memory_bytes"], x.nbytes

    (small, _), (large, size) = peak(100), peak(80_000)
    assert large - small < 1.3 * size
