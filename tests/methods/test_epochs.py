"""What a method does at an epoch's end, the epoch whose weights are taken, and what a composition is made of."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from stepping import CPU, STATIC

from midas.config.method import Method
from midas.images.reading import load
from midas.methods import composition as module
from midas.methods import distributions
from midas.methods.changes import Mask
from midas.methods.composition import compose
from midas.methods.decoding import decode_weights
from midas.methods.epochs import Choice, Hook
from midas.methods.learning import Learning, first_order, on_train
from midas.running.checkpoint import read
from midas.search import search
from midas.search import searching as step_by_step
from midas.spaces import get_space
from midas.training import searching
from midas.training.searching import Searching

# --- epochs


def with_composition(monkeypatch, **parts):
    """Searches are of compositions with other parts."""

    def changed(method, space, epochs):
        return module.Composition(**{**vars(compose(method, space)), **parts})

    monkeypatch.setattr(searching, "compose", changed)


def test_evaluation_of_the_whole_half_is_that_of_the_dump(search_run, tmp_path):
    run = search_run(epochs=1)
    search(run, tmp_path / "search")
    found = Searching(run, load(run.dataset, CPU)[0], CPU)
    found.bilevel.restore(read(tmp_path / "search_checkpoint/newest.pt")["state"])
    accuracy = json.loads((tmp_path / "search/metrics.json").read_text())["valid_accuracy"]
    evaluated = found.evaluate()
    assert evaluated.accuracy == pytest.approx(accuracy, abs=1e-4)
    assert 0 < evaluated.loss < 10
    none_left = Mask({"cell": torch.zeros(6, 5, dtype=torch.bool)}, False)
    assert found.evaluate(none_left).loss != evaluated.loss
    assert found.evaluate() == evaluated


WITHOUT_POOLING = torch.tensor([True, True, True, True, False]).expand(6, 5)


class Counts(Hook):
    """Freezes an operation and masks one after the first epoch, and counts epochs; what it counted survives."""

    seen: ClassVar[list[tuple[int, int, int]]] = []

    def __init__(self):
        self.count = 0

    def __call__(self, epoch):
        self.count += 1
        Counts.seen.append((int(epoch.passes.epoch), len(epoch.history), self.count))
        if self.count == 1:
            epoch.restrictions.freeze((0, 0, "nor_conv_3x3"))
            epoch.restrictions.keep({"cell": WITHOUT_POOLING}, renormalises=True)
        epoch.history[-1]["frozen"] = len(epoch.restrictions.frozen)

    def state(self):
        return {"count": self.count}

    def restore(self, state, passes):
        self.count = state["count"]


def test_hooks_are_called_at_each_epochs_end_and_go_on_after_a_kill(search_run, tmp_path, monkeypatch):
    with_composition(monkeypatch, hooks=(Counts,))
    run = search_run(epochs=3)
    Counts.seen.clear()
    search(run, tmp_path / "whole")
    assert Counts.seen == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    images, ended = load(run.dataset, CPU)[0], []
    for stop in ((1, 2), None):  # the first is left in the midst of its second epoch, right after it saved
        monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
        steps = step_by_step(run, tmp_path / "search", CPU, images)
        for place in steps:
            if place == stop:
                steps.close()
                break
        ended.append(len(Counts.seen))
    assert ended == [4, 6]
    assert Counts.seen[3:] == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    for name in ("arch.npz", "history.csv"):
        assert (tmp_path / "search" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "search/history.csv").read_text().splitlines()[0].endswith(",frozen")
    assert (np.load(tmp_path / "search/arch.npz")["p"][..., 4] == 0).all()


def test_what_a_hook_evaluates_does_not_depend_on_a_kill(search_run, tmp_path, monkeypatch):
    """Also where the last step of the epoch was saved, and weights are drawn at random."""
    seen = []

    class Looks(Hook):
        def __call__(self, epoch):
            seen.append(epoch.evaluate(None).loss)

    monkeypatch.setitem(distributions.DISTRIBUTIONS, "edge", lambda s: ((s + torch.randn_like(s)).softmax(-1), None))
    monkeypatch.setattr(module, "DRAWN", frozenset({"edge"}))
    with_composition(monkeypatch, hooks=(Looks,))
    run = search_run(epochs=1, method={"weights": "static"})
    images = load(run.dataset, CPU)[0]
    search(run, tmp_path / "whole")
    monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
    steps = step_by_step(run, tmp_path / "search", CPU, images)
    for place in steps:
        if place == (0, 3):
            steps.close()
    for _ in step_by_step(run, tmp_path / "search", CPU, images):
        pytest.fail("a step was taken again")
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_where_weights_are_drawn_their_softmax_is_dumped_and_decoded(search_run, tmp_path, monkeypatch):
    monkeypatch.setitem(distributions.DISTRIBUTIONS, "edge", lambda s: (0 * s.softmax(-1) + torch.rand_like(s), None))
    monkeypatch.setattr(module, "DRAWN", frozenset({"edge"}))
    run = search_run(epochs=1, method={"weights": "static"})
    search(run, tmp_path / "search")
    alpha = read(tmp_path / "search_checkpoint/newest.pt")["state"]["supernet"]["skeleton.cells.0.mixing.alpha"]
    p = np.load(tmp_path / "search/arch.npz")["p"]
    np.testing.assert_allclose(p, alpha.softmax(1).expand(1, p.shape[1], 6, 5).numpy(), rtol=1e-6)
    last = (tmp_path / "search/history.csv").read_text().splitlines()[-1]
    assert last.split(",")[-1].strip('"') == str(decode_weights(p[0], None, ["cell"] * 3, get_space("nas_bench_201")))


def test_columns_that_only_later_epochs_have_are_refused_at_once(search_run, tmp_path, monkeypatch):
    class Late(Hook):
        def __call__(self, epoch):
            if len(epoch.history) > 1:
                epoch.history[-1]["late"] = 1

    with_composition(monkeypatch, hooks=(Late,))
    with pytest.raises(ValueError, match="epoch 2 has other columns"):
        search(search_run(epochs=9), tmp_path / "search")


@pytest.mark.parametrize("largest", [True, False])
def test_the_chosen_epochs_weights_are_those_that_are_dumped(search_run, tmp_path, monkeypatch, largest):
    """The entropy falls or rises from epoch to epoch; one direction takes the first epoch."""
    run = search_run(epochs=3, method={"weights": "static"})
    ends = []

    class Keeps(Hook):
        def __call__(self, epoch):
            ends.append([x.detach().clone() for x in epoch.passes.architecture])
            epoch.history[-1]["value"] = -len(epoch.history)

    with_composition(monkeypatch, hooks=(Keeps,), choice=Choice("value", largest))
    search(run, tmp_path / "search")
    taken = ends[0 if largest else 2][0]
    p = np.load(tmp_path / "search/arch.npz")["p"]
    np.testing.assert_allclose(p[0, 0], taken.softmax(1).numpy(), rtol=1e-6)
    assert len(ends) == 3


def test_a_search_ends_when_nothing_better_comes_for_as_long_as_its_patience(search_run, tmp_path, monkeypatch):
    class Falls(Hook):
        def __call__(self, epoch):
            epoch.history[-1]["value"] = min(len(epoch.history), 2)

    with_composition(monkeypatch, hooks=(Falls,), choice=Choice("value", largest=True, patience=2))
    search(search_run(epochs=9), tmp_path / "search")
    assert json.loads((tmp_path / "search/metrics.json").read_text())["epochs"] == 4


def test_choices():
    rows = [{"loss": value} for value in (3.0, 1.0, 2.0, 1.0)]
    assert Choice().best(rows) == 3
    assert Choice("loss").best(rows) == 1
    assert Choice("loss", largest=True).best(rows) == 0
    assert not Choice("loss").ends(rows)
    assert Choice("loss", patience=2).ends(rows)
    assert not Choice("loss", patience=3).ends(rows)


def test_a_composition_says_what_a_method_is():
    found = compose(Method(patch_size=4, warmup_epochs=3, offer_none=True, decode_batch=8), get_space("darts"))
    assert found.learning == Learning(first_order, on_train, ())
    assert (found.warmup_epochs, found.decode_batch, found.choice, found.hooks) == (3, 8, Choice(), ())
    assert found.space.operations[0] == "none"
    assert not found.mixing.shared
    assert found.mixing.patch_size == 4
    assert compose(STATIC, get_space("darts")).mixing.shared
