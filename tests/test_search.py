import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from midas import search as module
from midas.config.settings import UserDataset
from midas.decode import decode, decode_dump
from midas.images.datasets import KNOWN, class_names, resolve
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.methods.composition import supernet_of
from midas.methods.passes import Passes
from midas.plan.runs import DecodeRun, RetrainRun
from midas.retrain import retrain
from midas.running.checkpoint import Checkpoint, read
from midas.search import search
from midas.spaces import get_space
from midas.spaces.genotype import load as load_genotype
from midas.spaces.genotype import parse
from midas.training.bilevel import Bilevel
from midas.training.sums import Averages, entropy

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
FILES = ("history.csv", "arch.npz", "example.npz")


class KilledError(Exception):
    pass


def numbers(folder):
    """What equal runs must have in common of metrics.json."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("cost", "provenance")}


def assert_same(folder, reference):
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in reference.iterdir())
    for name in FILES:
        if (reference / name).exists():
            assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    assert numbers(folder) == numbers(reference)


def history_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def supernet_as_drawn(run, folder=None):
    """The supernet as it was drawn, or as the checkpoint of a finished search holds it."""
    module.seed_step(run.seed, "initialise", 0, 0)
    supernet = supernet_of(get_space(run.space), run.method, run.search.channels, run.search.cells, run.dataset.classes)
    if folder is not None:
        path = folder.with_name("search_checkpoint") / "newest.pt"
        supernet.load_state_dict(read(path)["state"]["supernet"])
    return supernet


def finished(run, tmp_path):
    search(run, tmp_path / "search")
    return tmp_path / "search"


# --- equal, different, killed


def test_the_same_seed_gives_the_same_files(searched, search_run, tmp_path):
    torch.manual_seed(7)  # whatever came before
    assert_same(finished(search_run(), tmp_path), searched)


def test_another_seed_gives_another_search(searched, search_run, tmp_path):
    folder = finished(search_run(seed=1), tmp_path)
    first, second = np.load(searched / "arch.npz"), np.load(folder / "arch.npz")
    assert not np.array_equal(first["p"], second["p"])
    np.testing.assert_array_equal(first["labels"], second["labels"])  # the halves are the same for all seeds
    assert history_of(searched)[0]["train_loss"] != history_of(folder)[0]["train_loss"]


def count_steps(monkeypatch, kill_at=None):
    """Count the weight steps of searches from here on, and let one of them fail after it was taken."""
    taken, step = [], Bilevel.weight_step

    def counted(self, *arguments):
        step(self, *arguments)
        taken.append(1)
        if len(taken) == kill_at:
            raise KilledError

    monkeypatch.setattr(Bilevel, "weight_step", counted)
    return taken


@pytest.mark.parametrize("kill_at", [1, 3, 5, 9])  # of three steps in each of three epochs
def test_killed_in_the_middle_and_started_again(searched, search_run, tmp_path, monkeypatch, kill_at):
    with monkeypatch.context() as patch:
        count_steps(patch, kill_at)
        with pytest.raises(KilledError):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search").exists()
    torch.manual_seed(7)
    taken = count_steps(monkeypatch)
    search(search_run(), tmp_path / "search")
    assert len(taken) == 9 - (kill_at - 1) // 3 * 3
    assert_same(tmp_path / "search", searched)


METHODS = {"static": {"weights": "static"}, "frozen": {"patch_size": 4, "projections": "frozen"}}


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_killed_and_started_again(search_run, tmp_path, monkeypatch, method):
    run = search_run(method=METHODS[method])
    reference = finished(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        count_steps(patch, 5)
        with pytest.raises(KilledError):
            search(run, tmp_path / "search")
    search(run, tmp_path / "search")
    assert_same(tmp_path / "search", reference)


@pytest.mark.parametrize("output", ["write_dump", "write_example", "write_table", "write_metrics"])
def test_killed_while_writing_and_started_again(searched, search_run, tmp_path, monkeypatch, output):
    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(module, output, killed)
        with pytest.raises(KilledError):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search/metrics.json").exists()  # the last to be written
    taken = count_steps(monkeypatch)
    search(search_run(), tmp_path / "search")
    assert not taken
    assert_same(tmp_path / "search", searched)


def test_killed_by_the_system_and_started_again(searched, search_run, tmp_path):
    command = [sys.executable, "-m", "midas.search", str(searched / "metrics.json"), str(tmp_path / "search")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "search epoch 1/3" in line:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(60) == -signal.SIGKILL
    process.stderr.close()
    assert not (tmp_path / "search/metrics.json").exists()
    assert (tmp_path / "search_checkpoint/newest.pt").exists()
    search(search_run(), tmp_path / "search")
    assert_same(tmp_path / "search", searched)


def test_a_checkpoint_of_another_run_is_not_continued(search_run, tmp_path, monkeypatch, capsys):
    short = search_run(epochs=1)
    search(short, tmp_path / "search")
    taken = count_steps(monkeypatch)
    search(search_run(epochs=1, lr=0.01), tmp_path / "search")
    assert len(taken) == 3
    assert "config.search.lr: 0.025 there, 0.01 now" in capsys.readouterr().err
    assert (tmp_path / "search_checkpoint_aside1/newest.pt").exists()


def test_wall_time_counts_all_attempts(search_run, tmp_path):
    search(search_run(epochs=1), tmp_path / "search")
    path = tmp_path / "search_checkpoint/newest.pt"
    content = read(path)
    Checkpoint(path.parent, content["identity"]).save(content["state"] | {"seconds": 1000.0})
    (path.parent / "accepted").unlink()
    shutil.rmtree(tmp_path / "search")
    search(search_run(epochs=1), tmp_path / "search")
    assert 1000 < json.loads((tmp_path / "search/metrics.json").read_text())["cost"]["wall_seconds"] < 1100


def test_a_loss_that_is_not_finite_stops_the_search(searched, search_run, tmp_path, monkeypatch, capsys):
    def poisoned(self, x, y, averages):
        steps.append(1)
        if len(steps) == 5:
            with torch.no_grad():
                self.weights[0].fill_(math.nan)
        original(self, x, y, averages)

    steps, original = [], Bilevel.weight_step
    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", poisoned)
        with pytest.raises(ValueError, match="not finite at step 2 of epoch 2; the last checkpoint before it is kept"):
            search(search_run(), tmp_path / "search")
    assert not (tmp_path / "search").exists()
    state = read(tmp_path / "search_checkpoint/newest.pt")["state"]
    assert len(state["history"]) == 1
    assert all(tensor.isfinite().all() for tensor in state["supernet"].values())
    search(search_run(), tmp_path / "search")
    assert_same(tmp_path / "search", searched)


def test_a_learning_rate_far_too_large_stops_the_search(search_run, tmp_path):
    with pytest.raises(ValueError, match=r"the loss is not finite at step \d of epoch \d"):
        search(search_run(lr=1e30, clip=0), tmp_path / "search")


# --- steps


def order_of(run):
    supernet = supernet_as_drawn(run)
    return supernet, Bilevel(supernet, run.search, CPU)


def batch(run):
    images = load(run.dataset, CPU)[0].take(torch.arange(32))
    return Statistics.of(images).normalise(images.pixels), images.labels


def copies(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def all_equal(parameters, others):
    return [torch.equal(a, b) for a, b in zip(parameters, others, strict=True)]


BOTH = [("nas_bench_201", {"patch_size": 4}), ("nas_bench_201", {"weights": "static"}), ("darts", {"patch_size": 4})]


@pytest.mark.parametrize(("space", "method"), BOTH)
def test_a_step_of_the_architecture_changes_the_architecture_alone(search_run, space, method):
    run = search_run(space, method=method)
    supernet, order = order_of(run)
    order.weight_step(batch(run), batch(run), Averages())  # whose gradients are still there
    architecture, weights = copies(order.architecture), copies(order.weights)
    order.architecture_step(batch(run), batch(run), Averages())
    assert all(all_equal(weights, order.weights))
    assert not any(all_equal(architecture, order.architecture))
    assert len(architecture) + len(weights) == len(list(supernet.parameters()))


@pytest.mark.parametrize(("space", "method"), BOTH)
def test_a_step_of_the_weights_changes_the_weights_alone(search_run, space, method):
    run = search_run(space, method=method)
    _, order = order_of(run)
    order.architecture_step(batch(run), batch(run), Averages())
    architecture, weights = copies(order.architecture), copies(order.weights)
    order.weight_step(batch(run), batch(run), Averages())
    assert all(all_equal(architecture, order.architecture))
    assert sum(all_equal(weights, order.weights)) == 0


def test_the_gradient_of_the_weights_is_clipped(search_run):
    run = search_run(clip=1e-3, momentum=0, weight_decay=0)
    _, order = order_of(run)
    before = copies(order.weights)
    order.weight_step(batch(run), batch(run), Averages())
    change = torch.cat([(a - b).flatten() for a, b in zip(before, order.weights, strict=True)])
    assert change.norm().item() == pytest.approx(run.search.lr * 1e-3, rel=1e-2)


def test_the_architecture_learns_on_one_half_and_the_weights_on_the_other(search_run, tmp_path, monkeypatch):
    """Each image's label is the half that it lies in."""
    halves = search_halves(KNOWN["digits"], 200)
    labels = torch.zeros(200, dtype=torch.int64).index_fill(0, halves[1], 1).numpy()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "halves.npz", x_train=pixels, y_train=labels, x_test=pixels[:2], y_test=[0, 1])
    own = {"halves": UserDataset(kind="npz", path=str(tmp_path / "halves.npz"))}
    seen = {}

    def spy(name):
        found = getattr(Passes, name)

        def spied(self, batch):
            seen.setdefault(name, set()).update(batch[1].tolist())
            return found(self, batch)

        monkeypatch.setattr(Passes, name, spied)

    spy("of_architecture")
    spy("of_weights")
    search(search_run(dataset=resolve("halves", own, None, None), epochs=1), tmp_path / "search")
    assert seen == {"of_architecture": {1}, "of_weights": {0}}
    assert (np.load(tmp_path / "search/arch.npz")["labels"] == 1).all()


def test_both_halves_are_drawn_apart(search_run, tmp_path, monkeypatch):
    """Equal draws would show the architecture the augmentation that the weights have just seen."""
    draws = []

    class Spy(Loader):
        def epoch(self, epoch, first=0):
            draws.append((self.seed, self.stream))
            return super().epoch(epoch, first)

    monkeypatch.setattr(module, "Loader", Spy)
    finished(search_run(epochs=1, seed=5), tmp_path)
    assert len(set(draws)) == 2
    assert {seed for seed, _ in draws} == {5}


@pytest.mark.parametrize("epochs", [1, 3, 50])
def test_the_learning_rate_is_the_cosine_of_torch(search_run, epochs):
    _, order = order_of(search_run(epochs=epochs, lr=0.4, lr_min=0.02))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 0.02)
    for epoch in range(epochs):
        assert order.lr(epoch) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()
    assert order.lr(0) == pytest.approx(0.4)
    assert order.lr(epochs) == pytest.approx(0.02)


def test_each_epoch_steps_with_its_learning_rate(search_run, tmp_path, monkeypatch):
    rates, step = [], Bilevel.weight_step

    def spied(self, *arguments):
        rates.extend(group["lr"] for group in self.weight_optimizer.param_groups)
        step(self, *arguments)

    monkeypatch.setattr(Bilevel, "weight_step", spied)
    folder = finished(search_run(lr=0.05, lr_min=0.01), tmp_path)
    expected = [0.05, 0.04, 0.02]  # 0.01 + 0.04 (1 + cos(pi epoch / 3)) / 2
    assert rates == pytest.approx(np.repeat(expected, 3))
    assert [float(row["lr"]) for row in history_of(folder)] == pytest.approx(expected)


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


def test_entropy_is_that_of_an_edge():
    p = torch.zeros(1, 1, 3, 5)
    p[..., 0, :] = 0.2
    p[..., 1, 2] = 1.0
    p[..., 2, :2] = 0.1  # of a node's distribution: uniform over two
    assert entropy(p).item() == pytest.approx((math.log(5) + 0 + math.log(2)) / 3)


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


def test_metrics_count_parameters_and_images(searched, search_run):
    supernet = supernet_as_drawn(search_run())
    found = numbers(searched)
    # W_Q: d x (edges C), W_K: d x C, for nodes with one, two and three edges and d = C = 4, 8, 16
    architecture = sum(c * c * (edges + 1) for c in (4, 8, 16) for edges in (1, 2, 3))
    assert found["architecture_params"] == architecture
    assert found["weights_params"] == sum(p.numel() for p in supernet.parameters()) - architecture
    assert (found["epochs"], found["images"]) == (3, 100)


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


def test_a_dump_of_the_papers_size_takes_bounded_memory(tmp_path):
    """Of 25,000 images x 8 cells x 14 edges x 7 operations: 94 MB on disk."""
    command = [sys.executable, "-m", "benchmarks.analysis", str(tmp_path / "arch.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (tmp_path / "arch.npz").stat().st_size > 90e6
    assert int(done.stdout) < 400e6
