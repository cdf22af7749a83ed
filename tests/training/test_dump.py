"""The dump and the example of a search hold the weights that its supernet gives."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT
from searching import CPU, METHODS, finished, numbers, supernet_as_drawn

from midas.decode import decode_dump
from midas.images.datasets import class_names
from midas.images.halves import search_halves
from midas.images.reading import load
from midas.search import search
from midas.spaces import get_space


def forward_in_order(run, folder):
    """p, pi and right answers of the validation half by a forward pass of the checkpoint's supernet."""
    images, _ = load(run.dataset, CPU)
    half = search_halves(run.dataset, len(images))[1]
    pixels, labels = images.pixels[half].double().numpy(), images.labels[half]
    mean, std = (f(images.pixels.double().numpy(), (0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    x = torch.from_numpy((pixels - mean) / std).float()
    supernet, p, pi, right = supernet_as_drawn(run, folder), [], [], 0
    with torch.no_grad():
        for index in np.array_split(np.arange(100), 4):  # 100 images in batches of at most 32
            right += int((supernet(x[index]).argmax(1) == labels[index]).sum())
            p.append(supernet.mixture()[0])
            pi.append(supernet.mixture()[1])
    return torch.cat(p).numpy(), None if pi[0] is None else torch.cat(pi).numpy(), labels.numpy(), right


def test_the_dump_holds_the_weights_of_the_validation_half_in_order(searched, search_run):
    p, _, labels, right = forward_in_order(search_run(), searched)
    dump = np.load(searched / "arch.npz", allow_pickle=False)
    np.testing.assert_array_equal(dump["labels"], labels)
    np.testing.assert_allclose(dump["p"], p, atol=2e-4)
    assert np.abs(p - p.mean(0)).max() > 4e-4  # images differ by more
    assert numbers(searched)["valid_accuracy"] == pytest.approx(right, abs=1.01)  # percent of 100 images


def test_the_dump_of_nas_bench_201(searched, search_run):
    dump = np.load(searched / "arch.npz", allow_pickle=False)
    space = get_space("nas_bench_201")
    assert sorted(dump) == ["classes", "edges", "kinds", "labels", "offered", "operations", "p"]
    assert dump["p"].shape == (100, 3, 6, 5)
    assert (dump["p"].dtype, dump["labels"].dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(dump["p"].sum(-1), 1, atol=1e-5)
    assert dump["kinds"].tolist() == ["cell"] * 3
    assert dump["operations"].tolist() == list(space.operations)
    assert dump["edges"].tolist() == [list(edge) for edge in space.cells["cell"].edges]
    assert dump["offered"].shape == (3, 6, 5)
    assert dump["offered"].all()
    assert dump["classes"].tolist() == class_names(search_run().dataset)


@pytest.fixture(scope="module")
def darts(search_run, tmp_path_factory):
    """Folder of a tiny search in the DARTS space."""
    folder = tmp_path_factory.mktemp("darts") / "search"
    search(search_run("darts"), folder)
    return folder


def test_the_dump_of_darts(darts, search_run):
    dump = np.load(darts / "arch.npz", allow_pickle=False)
    spec = get_space("darts").cells["normal"]
    assert dump["p"].shape == (100, 3, 14, 7)
    assert dump["pi"].shape == (100, 3, 1 + 3 + 6 + 10)
    assert dump["kinds"].tolist() == ["normal", "reduce", "reduce"]
    for node in spec.nodes:
        np.testing.assert_allclose(dump["p"][:, :, spec.incoming(node)].sum((-1, -2)), 2, atol=1e-5)
        columns = [i for i, pair in enumerate(spec.pairs) if pair[0] in spec.incoming(node)]
        np.testing.assert_allclose(dump["pi"][:, :, columns].sum(-1), 1, atol=1e-5)
    for edge in range(14):  # an edge's weights sum to the probability that a pair holds it
        columns = [i for i, pair in enumerate(spec.pairs) if edge in pair]
        np.testing.assert_allclose(dump["p"][:, :, edge].sum(-1), dump["pi"][:, :, columns].sum(-1), atol=1e-5)
    p, pi, labels, _ = forward_in_order(search_run("darts"), darts)
    np.testing.assert_array_equal(dump["labels"], labels)
    np.testing.assert_allclose(dump["p"], p, atol=2e-3)
    np.testing.assert_allclose(dump["pi"], pi, atol=2e-3)
    cell = decode_dump(darts / "arch.npz", get_space("darts"), search_run("darts").method)
    assert all(len(node) == 2 for nodes in cell.cells.values() for node in nodes)


def test_a_static_dump_has_one_row(search_run, tmp_path):
    run = search_run(method=METHODS["static"])
    folder = finished(run, tmp_path)
    dump = np.load(folder / "arch.npz")
    alpha = supernet_as_drawn(run, folder).architecture_parameters()
    assert len(alpha) == 1
    np.testing.assert_allclose(dump["p"], alpha[0].softmax(-1).detach().expand(1, 3, 6, 5), atol=1e-6)
    assert dump["labels"].tolist() == [-1]
    assert numbers(folder)["images"] == 100
    example = np.load(folder / "example.npz")
    assert example["patch_p"].shape == (1, 1, 12)
    np.testing.assert_allclose(example["patch_p"][0, 0], dump["p"][0, 0, 3:, 1:].flatten(), atol=1e-6)
    np.testing.assert_allclose(example["output"], np.tensordot(example["p"], example["maps"], 1), atol=1e-5)


def spread(patch_p, shape):
    """Weights of patches [gh, gw, K] on the pixels of a map: [K, h, w]."""
    grid = patch_p.shape[:2]
    return np.kron(patch_p.transpose(2, 0, 1), np.ones((1, shape[0] // grid[0], shape[1] // grid[1])))


@pytest.mark.parametrize("space", ["nas_bench_201", "darts"])
def test_the_example_explains_a_node(searched, search_run, request, space):
    folder = searched if space == "nas_bench_201" else request.getfixturevalue("darts")
    example, dump = np.load(folder / "example.npz", allow_pickle=False), np.load(folder / "arch.npz")
    spec, operations = next(iter(get_space(space).cells.values())), list(get_space(space).operations)
    node = spec.nodes[-1]
    assert (int(example["node"]), int(example["cell"])) == (node, 0)
    keys = [(edge, name) for edge in spec.incoming(node) for name in spec.candidates[edge] if name != "none"]
    assert example["operations"].tolist() == [name for _, name in keys]
    assert example["sources"].tolist() == [spec.edges[edge][0] for edge, _ in keys]
    assert example["patch_p"].shape == (4, 4, len(keys)) == (*example["grid"], len(keys))
    assert example["maps"].shape == (len(keys), 16, 16)
    np.testing.assert_allclose(example["p"], example["patch_p"].mean((0, 1)), atol=1e-6)
    of_dump = [dump["p"][0, 0, edge, operations.index(name)] for edge, name in keys]
    np.testing.assert_allclose(example["p"], of_dump, atol=1e-6)
    output = np.tensordot(example["p"], example["maps"], 1)
    np.testing.assert_allclose(example["output"], output, atol=1e-5)
    assert np.abs(output).max() > 0.01
    images, _ = load(search_run().dataset, CPU)
    first = search_halves(search_run().dataset, len(images))[1][0]
    np.testing.assert_array_equal(example["image"], images.pixels[first])
    assert int(example["label"]) == int(images.labels[first])


def test_the_example_of_patches_that_are_mixed_apart(search_run, tmp_path):
    example = np.load(
        finished(search_run(method={"patch_size": 8, "mixing": "patch"}, epochs=1), tmp_path) / "example.npz"
    )
    weights = spread(example["patch_p"], example["output"].shape)
    np.testing.assert_allclose(example["output"], (weights * example["maps"]).sum(0), atol=1e-5)
    whole = np.tensordot(example["p"], example["maps"], 1)
    assert np.abs(example["output"] - whole).max() > 1e-4


def test_a_dump_of_the_papers_size_takes_bounded_memory(tmp_path):
    """Of 25,000 images x 8 cells x 14 edges x 7 operations: 94 MB on disk."""
    command = [sys.executable, "-m", "benchmarks.analysis", str(tmp_path / "arch.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (tmp_path / "arch.npz").stat().st_size > 90e6
    assert int(done.stdout) < 400e6
