"""Steps of a search: which half changes which parameters, at which learning rate, in which order."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from searching import CPU, finished, history_of, supernet_as_drawn

from midas.config.settings import UserDataset
from midas.images.datasets import KNOWN, resolve
from midas.images.halves import search_halves
from midas.images.loader import Loader, Statistics
from midas.images.reading import load
from midas.methods.passes import Passes
from midas.search import search
from midas.training import searching as module
from midas.training.bilevel import Bilevel
from midas.training.sums import Averages, SearchSums, entropy


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


def test_entropy_is_that_of_an_edge():
    p = torch.zeros(1, 1, 3, 5)
    p[..., 0, :] = 0.2
    p[..., 1, 2] = 1.0
    p[..., 2, :2] = 0.1  # of a node's distribution: uniform over two
    assert entropy(p).item() == pytest.approx((math.log(5) + 0 + math.log(2)) / 3)


# --- on what originals differ


def switched(search_run, **settings):
    run = search_run("nas_bench_201", method={"weights": "static"})
    changed = run.search.model_copy(update=settings)
    return run.model_copy(update={"search": changed})


@pytest.mark.parametrize("order", ["architecture_first", "weights_first"])
def test_the_second_to_learn_sees_what_the_first_has_learned(search_run, order):
    run = switched(search_run, order=order)
    _, known = order_of(run)
    steps = [partial(known.architecture_step, averages=Averages()), partial(known.weight_step, averages=Averages())]
    for step in steps if order == "architecture_first" else steps[::-1]:
        step(batch(run), batch(run))
    _, found = order_of(run)
    found.step(batch(run), batch(run), SearchSums())
    assert all(all_equal([*found.weights, *found.architecture], [*known.weights, *known.architecture]))


def test_nesterov_is_torchs(search_run):
    plain, nesterov = (order_of(switched(search_run, nesterov=value))[1] for value in (False, True))
    for found in (plain, nesterov):
        found.weight_step(batch(switched(search_run)), batch(switched(search_run)), Averages())
    assert not any(all_equal(plain.weights, nesterov.weights))
    assert nesterov.weight_optimizer.param_groups[0]["nesterov"]


def test_the_norm_that_is_clipped_counts_the_architecture_if_asked_for(search_run):
    run = switched(search_run, clip=1e-3, momentum=0.0, weight_decay=0.0)
    norms = []
    for counted in (False, True):
        run = run.model_copy(update={"search": run.search.model_copy(update={"clip_architecture": counted})})
        _, found = order_of(run)
        found.architecture_step(batch(run), batch(run), Averages())
        before = copies(found.weights)
        found.architecture[0].grad = torch.full_like(found.architecture[0], 100.0)
        found.weight_step(batch(run), batch(run), Averages())
        moved = torch.cat([(a - b.detach()).flatten() for a, b in zip(before, found.weights, strict=True)])
        norms.append(float(moved.norm()) / found.lr(0))
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] < 0.1 * norms[0]
