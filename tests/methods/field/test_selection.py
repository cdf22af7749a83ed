"""DARTS-PT beside numbers of its authors' code, and in searches: what the events choose is what is decoded.

Of the reference all is compared but `network_in_training_mode`, of which a test here says what it comes to: statistics of the
batch.
"""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recordable import Recordable
from stepping import SETTINGS, STATIC, batch, made, parameters

from midas.config.method import Method
from midas.decode import decode_dump
from midas.images.reading import load
from midas.methods.changes import Mask
from midas.methods.composition import compose
from midas.methods.epochs import Choice, Evaluated
from midas.methods.field import selection as module
from midas.methods.field.selection import Selection, evaluations, kept_edges, schedule
from midas.methods.learning import Learning
from midas.search import search as search_step
from midas.search import searching
from midas.spaces import SPACES, get_space
from midas.supernet.cpu import kernels
from midas.supernet.weights import Place
from midas.training.searching import Searching
from midas.training.sums import SearchSums

CPU = torch.device("cpu")
PARTS = {"weights": "static", "oles": {"window": 1}, "perturbation": {}, "flat": {}}


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "darts_pt.json"
    if not path.exists():
        pytest.skip("needs the numbers of the original code in ../shared/data/reference")
    return json.loads(path.read_text())


class Ended:
    """A hook at the ends of epochs of a search that takes no steps, with given values of the supernet.

    Args:
        space: its name.
        value: of a change of the weights.
        by: what the values are.
    """

    def __init__(self, space, value, by="accuracy"):
        self.hook = Selection(get_space(space), 1, 5, by)
        self.search = made(space=space, cells=1 if space == "nas_bench_201" else 3)
        self.value, self.by, self.history = value, by, []

    def evaluate(self, change):
        value = self.value(change)
        return Evaluated(value, -1.0) if self.by == "loss" else Evaluated(-1.0, value)

    def end(self, epochs=1):
        for _ in range(epochs):
            self.history.append({})
            restrictions = self.search.restrictions
            self.hook(SimpleNamespace(
                passes=self.search.passes, history=self.history, restrictions=restrictions, evaluate=self.evaluate
            ))  # fmt: skip

    @property
    def kept(self):
        return self.search.restrictions.mask.kept


# --- numbers of the original


def test_the_chosen_operation_and_the_weights_during_removal_are_those_of_the_original(reference, monkeypatch):
    data = reference["operation_selection"]
    alpha = torch.tensor(data["alpha"], dtype=torch.float64)
    expected = torch.tensor(data["weights_of_the_edge_while_each_operation_is_removed"], dtype=torch.float64)
    monkeypatch.setattr(module, "_drawn", lambda numbers: numbers[data["edge"]])
    for case in data["cases"]:
        values, seen = [iter([float(v) for v in case["values_after_removal"]]) for _ in range(2)], []

        def value(change, values=values, seen=seen):
            rows = change(alpha.softmax(-1)[None, 5:9], Place(0, "normal", 4, slice(5, 9)))
            others = change(alpha.softmax(-1)[None, 5:9], Place(1, "reduce", 4, slice(5, 9)))
            kind = int(torch.equal(rows[0], alpha.softmax(-1)[5:9]))
            if kind == 0:
                seen.append(rows[0, 0])
                assert torch.equal(rows[0, 1:], alpha.softmax(-1)[6:9])
                assert torch.equal(others[0], alpha.softmax(-1)[5:9])
            return next(values[kind])

        ended = Ended("darts", value, {"acc": "accuracy", "loss": "loss"}[case["criterion"]])
        ended.end()
        torch.testing.assert_close(torch.stack(seen), expected, rtol=1e-9, atol=1e-12)
        for kept in ended.kept.values():
            assert kept[data["edge"]].nonzero().flatten().tolist() == [case["chosen_operation"]]
            assert kept.sum() == 13 * 7 + 1


def test_the_edges_that_are_kept_are_those_of_the_original(reference):
    for case in reference["edge_selection"]:
        values, seen = iter(case["values"]), []

        def worth(edge, values=values, seen=seen, sign=-1 if case["criterion"] == "loss" else 1):
            seen.append(edge)
            return sign * next(values)

        assert kept_edges(case["edges"], worth, 2) == case["kept"]
        assert seen == case["edge_removed_for_each_value"]


@pytest.mark.parametrize(("name", "space"), [("darts_space", "darts"), ("nas_bench_201", "nas_bench_201")])
def test_the_schedule_is_that_of_the_original(reference, name, space):
    case = reference["schedule"][name]
    events = schedule(get_space(space), 5)
    assert events == [epoch for epoch, _ in case["events"]]
    assert events[-1] + 1 == case["tuning_epochs"]
    assert compose(Method(weights="static", selection={}), get_space(space), 3).more_epochs == case["tuning_epochs"]
    ended = Ended(space, lambda change: 1.0)
    for event, kind in case["events"]:
        ended.end(event + 1 - len(ended.history))
        single = [int((kept.sum(-1) == 1).sum()) for kept in ended.kept.values()]
        deleted = [int((kept.sum(-1) == 0).sum()) for kept in ended.kept.values()]
        done = [event for event, _ in case["events"]].index(event) + 1
        assert ended.history[-1] == {"decided": done}
        if kind == "operation":
            assert single == [done] * len(single)
            assert not any(deleted)
        else:
            assert all(n > 0 for n in deleted)


@pytest.mark.parametrize("interval", [1, 2, 5])
@pytest.mark.parametrize("space", ["darts", "nas_bench_201"])
def test_each_edge_and_node_has_an_epoch_of_its_own(space, interval):
    events = schedule(get_space(space), interval)
    assert len(set(events)) == len(events) == (17 if space == "darts" else 6)


# --- what is decided


def contributions(space):
    draw = torch.Generator().manual_seed(3)
    return {
        kind: torch.rand(len(spec.edges), len(space.operations), generator=draw) for kind, spec in space.cells.items()
    }


@pytest.mark.parametrize("by", ["accuracy", "loss"])
@pytest.mark.parametrize("name", ["darts", "s3", "s1", "nas_bench_201"])
def test_of_a_value_that_is_a_sum_the_largest_contributions_are_found(name, by):
    """On each edge the largest of what it offers, at each node the two edges with the largest; in whatever order."""
    space = get_space(name)
    own = contributions(space)
    ended, calls = None, []

    def value(change):
        calls.append(change)
        mask = ended.search.restrictions.mask
        kept = {kind: torch.ones_like(x, dtype=torch.bool) for kind, x in own.items()} if mask is None else mask.kept
        whole = sum(float((own[kind] * kept[kind] * change.kept[kind]).double().sum()) for kind in own)
        return whole if by == "accuracy" else -whole

    ended = Ended(name, value, by)
    torch.manual_seed(1)
    ended.end(schedule(space, 5)[-1] + 1)
    assert len(calls) == evaluations(space, space.decodes_none)
    for kind, spec in space.cells.items():
        offered = torch.tensor(
            [[o in c and (space.decodes_none or o != "none") for o in space.operations] for c in spec.candidates]
        )
        best, which = own[kind].masked_fill(~offered, -1).max(-1)
        kept = ended.kept[kind]
        for node in spec.nodes:
            edges = spec.incoming(node)
            left = sorted(edges, key=lambda edge: -best[edge])[: space.kept_edges or len(edges)]
            assert [edge for edge in edges if kept[edge].any()] == sorted(left)
            for edge in left:
                assert kept[edge].nonzero().flatten().tolist() == [int(which[edge])]


def test_the_order_is_drawn_for_each_kind_by_itself():
    orders = []
    for seed in (0, 1):
        ended, orders_of = Ended("darts", lambda change: 1.0), {"normal": [], "reduce": []}
        torch.manual_seed(seed)
        for event in schedule(get_space("darts"), 5)[:14]:
            ended.end(event + 1 - len(ended.history))
            for kind, order in orders_of.items():
                decided = (ended.kept[kind].sum(-1) == 1).nonzero().flatten().tolist()
                order += [edge for edge in decided if edge not in order]
        orders += orders_of.values()
    assert all(sorted(order) == list(range(14)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_an_operation_that_is_alone_has_weight_1_and_its_logits_learn_nothing_more():
    """Undecided edges keep their weights to the last bit; a deleted edge has none; decay alone moves the hidden logits."""
    search = made(precision="float32", arch_weight_decay=0.5)
    p = search.passes.forward(batch(0)).p.clone()
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[1], kept[3] = torch.tensor([False, False, False, True, False]), False
    search.restrictions.keep({"cell": kept}, renormalises=False, alone=True)
    now = search.passes.forward(batch(0)).p
    assert torch.equal(now[:, :, 1], kept[1].float().expand(1, 3, 5))
    assert not now[:, :, 3].any()
    others = [0, 2, 4, 5]
    assert torch.equal(now[:, :, others], p[:, :, others])
    (gradient,) = search.passes.of_architecture(batch(0)).gradients
    assert not gradient[[1, 3]].any()
    assert gradient[others].any(-1).all()
    (alpha,) = search.architecture
    before = alpha.detach().clone()
    search.step(batch(0), batch(1), SearchSums())
    assert not torch.equal(alpha[1], before[1])


def test_where_weights_are_drawn_those_that_are_decoded_are_masked_too(monkeypatch):
    search = made()
    for cell in search.supernet.cells:
        cell.mixing.draws = True
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[1, 1:] = False
    before = search.supernet.settled()
    search.restrictions.keep({"cell": kept}, renormalises=False, alone=True)
    settled = search.supernet.settled()
    assert torch.equal(settled[:, :, 1], kept[1].float().expand(1, 3, 5))
    assert torch.equal(settled[:, :, 2:], before[:, :, 2:])


def test_what_is_kept_is_in_the_checkpoint():
    ended = Ended("nas_bench_201", lambda change: 1.0)
    ended.end(6)
    other = made()
    other.restrictions.restore(ended.search.restrictions.state())
    assert other.restrictions.mask.alone
    assert torch.equal(other.restrictions.mask.kept["cell"], ended.kept["cell"])


def test_a_step_with_decided_edges_can_be_recorded(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search = made(cuda_graph=True, precision="float32")
    kept = torch.ones(6, 5, dtype=torch.bool)
    kept[1, 1:], kept[2] = False, False
    search.restrictions.keep({"cell": kept}, renormalises=False, alone=True)
    search.begin(7)
    for _ in range(2):
        search.step(batch(0), batch(1), SearchSums())
    with Recordable():
        search.step(batch(0), batch(1), SearchSums())


# --- epochs that follow


def test_the_weights_begin_anew_at_a_tenth_of_the_learning_rate():
    """As with another optimiser; schedules stay where they end."""
    found, fresh = (made(Learning(late_rate=0.1), momentum=0.9) for _ in range(2))
    for search in (found, fresh):
        search.step(batch(0), batch(1), SearchSums())
    found.forget()
    fresh.weight_optimizer = torch.optim.SGD(fresh.weights, 1.0, SETTINGS.momentum, weight_decay=SETTINGS.weight_decay)
    for search in (found, fresh):
        search.begin(2)
        for step in (1, 2):
            search.step(batch(2 * step), batch(2 * step + 1), SearchSums())
    assert all(torch.equal(a, b) for a, b in zip(parameters(found), parameters(fresh), strict=True))
    assert [found.lr(epoch) for epoch in (0, 2, 50)] == pytest.approx([0.025, 0.0025, 0.0025])
    assert int(found.passes.epoch) == 1
    assert made(Learning(late_rate=0.5)).lr(2) == 0.0125


def test_keys_make_it():
    method = Method(weights="static", selection={"interval": 2, "by": "loss", "rate": 0.2}, warmup_epochs=1)
    found = compose(method, get_space("nas_bench_201"), 3)
    (hook,) = (make() for make in found.hooks)
    assert (hook.epochs, hook.worth, hook.allow_none) == (3, module.WORTHS["loss"], True)
    assert (found.more_epochs, found.warmup_epochs, found.learning.late_rate) == (10, 1, 0.2)
    fixed = compose(Method(weights="static", selection={"fixed": True}), get_space("darts"), 3)
    assert fixed.warmup_epochs == 84
    plain = compose(STATIC, get_space("darts"), 3)
    assert (plain.more_epochs, plain.warmup_epochs, plain.hooks, plain.choice) == (0, 0, (), Choice())


def rows_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decided(folder, space, method):
    """Asserts that all is decided in the dump of a search, the same for all images; gives the cell."""
    p = np.load(folder / "arch.npz")["p"]
    assert (p == p[:1]).all()
    assert np.isin(p, (0, 1)).all()
    spec = next(iter(SPACES[space].cells.values()))
    edges = p[0].sum(-1)
    assert edges.max() == 1
    for node in spec.nodes:
        kept = edges[:, list(spec.incoming(node))].sum(-1)
        assert (kept == (SPACES[space].kept_edges or len(spec.incoming(node)))).all()
    return str(decode_dump(folder / "arch.npz", get_space(space), method))


@pytest.fixture
def drawn_values(monkeypatch):
    """The supernet's values are drawn, which costs nothing."""
    monkeypatch.setattr(
        Searching, "evaluate", lambda self, change=None: Evaluated(float(torch.rand(())), float(torch.rand(())))
    )


def test_a_search_goes_on_until_all_is_decided(search_run, tmp_path):
    """The epochs before are those of DARTS; what the events chose is decoded."""
    run = search_run(epochs=2, method={"weights": "static", "selection": {"interval": 1}})
    search_step(run, tmp_path / "search")
    search_step(search_run(epochs=2, method={"weights": "static"}), tmp_path / "darts")
    rows, plain = rows_of(tmp_path / "search"), rows_of(tmp_path / "darts")
    assert [int(row.pop("decided")) for row in rows] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert rows[:2] == plain
    assert [float(row["lr"]) for row in rows[2:]] == pytest.approx([0.0025] * 6)
    cell = decided(tmp_path / "search", "nas_bench_201", run.method)
    assert cell == rows[-1]["genotype"]
    metrics = json.loads((tmp_path / "search/metrics.json").read_text())
    assert (metrics["epochs"], metrics["decoded_epoch"]) == (8, 8)


@pytest.mark.parametrize(
    ("space", "method"),
    [("nas_bench_201", {"patch_size": 4}), ("nas_bench_201", PARTS), ("s2", {"patch_size": 4, "distribution": "edge"})],
)
def test_it_goes_with_other_sources_and_spaces(search_run, tmp_path, drawn_values, space, method):
    sizes = {"channels": 2, "cells": 1 if space == "nas_bench_201" else 3, "batch_size": 64, "arch_lr": 0.01}
    run = search_run("darts", epochs=1, method=method | {"selection": {"interval": 1}})
    run = run.model_copy(update={"space": space, "search": run.search.model_copy(update=sizes)})
    search_step(run, tmp_path / "search")
    rows = rows_of(tmp_path / "search")
    assert len(rows) == 1 + (6 if space == "nas_bench_201" else 17)
    assert decided(tmp_path / "search", space, run.method) == rows[-1]["genotype"]


def test_with_a_fixed_architecture_it_stays_as_it_was_drawn(search_run, tmp_path, drawn_values):
    run = search_run(epochs=1, method={"weights": "static", "selection": {"interval": 1, "fixed": True}})
    search_step(run, tmp_path / "search")
    norms = json.loads((tmp_path / "search/metrics.json").read_text())["architecture_norms"]
    assert len(norms) == 8
    assert len(set(norms)) == 1
    assert 0 < norms[0] < 0.02
    decided(tmp_path / "search", "nas_bench_201", run.method)


def test_the_supernet_is_measured_with_statistics_of_the_batch(search_run):
    run = search_run(epochs=1, method={"weights": "static", "selection": {}})
    found = Searching(run, load(run.dataset, CPU)[0], CPU)
    seen = []
    found.bilevel.supernet.register_forward_hook(lambda module, *_: seen.append(module.training))
    kept = torch.ones(6, 5, dtype=torch.bool)
    found.evaluate(Mask({"cell": kept}, False))
    assert seen
    assert all(seen)


def test_killed_and_resumed_it_leaves_the_same(search_run, tmp_path, monkeypatch):
    """In the search; at its last step, before the first event; within an epoch after it; before another event."""
    run = search_run(epochs=1, method={"weights": "static", "selection": {"interval": 1}})
    search_step(run, tmp_path / "whole")
    monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
    images = load(run.dataset, CPU)[0]
    for stop in ((0, 2), (0, 3), (1, 1), (3, 3), None):
        steps, reached = searching(run, tmp_path / "search", CPU, images), []
        for place in steps:
            reached.append(place)
            if place == stop:
                steps.close()
        assert stop in (None, reached[-1])
    for name in ("arch.npz", "history.csv"):
        assert (tmp_path / "search" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
