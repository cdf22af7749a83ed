"""Reducing results for the repository: what is kept, what is left out, and that the same cell is decoded from it."""

from pathlib import Path

import numpy as np
import pytest

from midas import publish
from midas.analysis.dumps import load_dump
from midas.check import load
from midas.decode import decode_dump
from midas.settings import Method
from midas.spaces import get_space

ROOT = Path(__file__).parent.parent


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


@pytest.mark.parametrize("text", ['"path": "/home/me/data"', "in /data2/x-y/z:", "split=/Users/a/b.json", "'/mnt-a/b'"])
def test_a_folder_of_a_machine_is_found(text, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"search/metrics.json: '/.*' is not allowed; run it with paths relative"):
        publish._refuse_paths(tmp_path)


@pytest.mark.parametrize("text", ["epoch 1/8", "../data/x", "data/x/y", "https://a.b/c/d", "within/between", "N/A"])
def test_other_slashes_are_no_folders(text, tmp_path):
    (tmp_path / "log.txt").write_text(text)
    publish._refuse_paths(tmp_path)


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
