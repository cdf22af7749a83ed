"""OLES beside numbers of its authors' code; without a threshold that is ever reached it is first-order DARTS bit for bit.

Not compared of the reference: `accumulation`, which says that the original's held gradient is the sum of both halves' (here that
sum is taken by itself), and the names of the operation.
"""

import csv
import json

import pytest
import torch
import torch.nn.functional as F
from recordable import Recordable
from stepping import STATIC, batch, made, same, stepped

from midas.config.method import Method
from midas.images.reading import load
from midas.methods.composition import compose
from midas.methods.field.steps.flat import flat
from midas.methods.field.steps.oles import Oles, Window, scored, similarity
from midas.methods.learning import Learning
from midas.search import search as search_step
from midas.search import searching
from midas.spaces import get_space
from midas.supernet.cpu import kernels
from midas.training.sums import SearchSums

CPU = torch.device("cpu")
EXACT = {"rtol": 1e-9, "atol": 1e-12}
NEVER = -1.06
"""Below -21/20, which is the smallest that can be compared."""


@pytest.fixture
def reference(shared_data):
    path = shared_data / "reference" / "oles.json"
    if not path.exists():
        pytest.skip("needs the numbers of the original code in ../shared/data/reference")
    return json.loads(path.read_text())


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


# --- numbers of the original


def test_both_scores_are_those_of_the_original(reference):
    case = reference["score"]
    train, valid = ([exact(g) for g in case[name]] for name in ("train_gradients", "valid_gradients"))
    assert [list(g.shape) for g in train] == case["shapes"]

    def score(now):
        return torch.cat([similarity(a[None], b[None]) for a, b in zip(now, train, strict=True)])

    alone = score(valid)
    both = score([a + b for a, b in zip(valid, train, strict=True)])
    torch.testing.assert_close(alone, exact(case["per_parameter_dim0_means_valid"]), **EXACT)
    torch.testing.assert_close(alone.mean(), exact(case["score_code_on_valid_alone"]), **EXACT)
    torch.testing.assert_close(both.mean(), exact(case["score_code_as_the_loop_calls_it"]), **EXACT)


def test_the_flattened_cosine_is_another_number(reference):
    case = reference["score"]
    train, valid = (
        torch.cat([exact(g).flatten() for g in case[name]]) for name in ("train_gradients", "valid_gradients")
    )
    alone, both = F.cosine_similarity(valid, train, 0), F.cosine_similarity(valid + train, train, 0)
    torch.testing.assert_close(alone, exact(case["flattened_cosine_valid_train"]), **EXACT)
    torch.testing.assert_close(both, exact(case["flattened_cosine_sum_train"]), **EXACT)
    assert abs(alone.item() - case["score_code_on_valid_alone"]) > 0.2


def window_of(operations):
    return Window(
        torch.zeros(operations, dtype=torch.float64),
        torch.zeros((), dtype=torch.int64),
        torch.zeros(operations, dtype=torch.bool),
    )


@pytest.mark.parametrize(("factor", "frozen"), [(1 + 1e-9, True), (1 - 1e-9, False)])
def test_the_first_decision_is_made_at_check_21_on_the_value_of_the_original(reference, factor, frozen):
    case = reference["window"]
    (compared,) = [check["compared"] for check in case["sequence"] if check["decides"]]
    window, one = window_of(1), torch.ones((), dtype=torch.int64)
    for check in case["sequence"]:
        assert int(window.checks) == check["count_before"]
        window.add(exact([check["score"]]), one, 20, compared * factor)
        assert (int(window.checks) == 0) == check["decides"]
        assert bool(window.still) == (frozen and check["check"] == case["first_decision_at_check"])
    assert case["first_decision_at_check"] == case["frozen_at_check"] == 21
    assert (int(window.checks), float(window.sums)) == (0, 0.0)


def test_with_the_default_threshold_it_freezes_where_the_original_does(reference):
    case, window = reference["window"], window_of(1)
    at = None
    for check in case["sequence"]:
        window.add(exact([check["score"]]), torch.ones((), dtype=torch.int64), 20, 0.4)
        at = check["check"] if at is None and bool(window.still) else at
    assert at == case["frozen_at_check"]


# --- in a search


def watched(*options, gradient=None, **how):
    """A search of an `Oles`, and that."""
    oles = Oles(*options)
    learning = Learning() if gradient is None else Learning(architecture=gradient)
    return made(oles.watches(learning), **how), oles


def run(search, steps, first=0):
    for step in range(first, first + steps):
        search.step(batch(2 * step), batch(2 * step + 1), SearchSums())


def convolutions(search):
    return [
        [p.detach()[part].clone() for p, part in search.supernet.parameters_of(*o)] for o in scored(search.supernet)
    ]


@pytest.mark.parametrize(
    "how",
    [
        *({}, {"merge_edges": True}, {"precision": "bfloat16"}, {"method": Method(patch_size=4)}),
        {"space": "darts", "cells": 3, "steps": 2, "merge_edges": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("accumulated", [True, False])
def test_below_any_score_it_is_first_order_darts_bit_for_bit(how, accumulated):
    assert same(stepped(Oles(NEVER, 1, accumulated).watches(Learning()), **how), stepped(**how))


def test_with_another_step_of_the_architecture_that_step_is_as_it_was():
    gradient = flat(0.1, 0.01)
    found = stepped(Oles(NEVER, 1).watches(Learning(architecture=gradient)))
    assert same(found, stepped(Learning(architecture=gradient)))


def test_scored_are_the_convolutions_of_each_edge_of_each_cell():
    """Not the reduction cells' skip_connect, which has weights."""
    found = scored(made(space="darts", cells=3).supernet)
    assert len(found) == len(set(found)) == 3 * 14 * 4
    assert {name for *_, name in found} == {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"}
    assert len(scored(made(cells=2).supernet)) == 2 * 3 * 6 * 2


@pytest.mark.parametrize(
    ("how", "accumulated", "gradient"),
    [
        ({}, True, None),
        ({}, False, flat(0.1, 0.01)),
        ({"space": "s2", "cells": 3}, True, flat(0.1, 0.01)),
        ({"space": "s2", "cells": 3}, False, None),
        ({"merge_edges": True, "space": "darts", "cells": 3}, True, None),
    ],
)
def test_scores_compare_the_last_clipped_gradient_of_a_training_batch(how, accumulated, gradient):
    """One operation after the other, by the original's loop."""
    search, oles = watched(NEVER, 20, accumulated, gradient=gradient, clip=0.1, **how)
    expected, last = 0, None
    for step in range(3):
        valid = [g.clone() for g in search.passes.of_weights(batch(2 * step + 1)).gradients]
        if last is not None:
            now = {id(w): (v + g if accumulated else v, g) for w, v, g in zip(search.weights, valid, last, strict=True)}
            scores = []
            for operation in scored(search.supernet):
                parts = search.supernet.parameters_of(*operation)
                means = [F.cosine_similarity(*(x[part] for x in now[id(p)]), dim=0).mean() for p, part in parts]
                scores.append(sum(means) / len(means))
            expected = expected + torch.stack(scores)
        run(search, 1, step)
        last = [w.grad.clone() for w in search.weights]
    assert torch.nn.utils.get_total_norm(last) < 0.11
    assert int(oles.found.checks) == 2
    torch.testing.assert_close(oles.found.sums, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("merged", [True, False])
def test_frozen_weights_stand_still_and_all_else_goes_on(merged):
    """At the third check of a window of two, which is that of the fourth step, before its step of the weights."""
    search, oles = watched(2.0, 2, merge_edges=merged, momentum=0.9, weight_decay=0.01)
    run(search, 3)
    before, others = convolutions(search), [a.detach().clone() for a in search.architecture]
    assert not oles.found.still.any()
    classifier = search.weights[-1].detach().clone()
    for step in range(3, 6):
        run(search, 1, step)
        assert oles.found.still.all()
        assert all(
            torch.equal(a, b)
            for old, now in zip(before, convolutions(search), strict=True)
            for a, b in zip(old, now, strict=True)
        )
    assert not torch.equal(search.weights[-1], classifier)
    assert not any(torch.equal(a, b) for a, b in zip(others, search.architecture, strict=True))
    assert search.restrictions.mask is None


@pytest.mark.parametrize("merged", [True, False])
def test_those_below_the_threshold_alone_are_frozen_and_more_and_more_of_them(merged):
    probe, oles = watched(NEVER, 20, merge_edges=merged)
    run(probe, 4)
    threshold = oles.found.sums.median().item() / 2
    search, oles = watched(threshold, 2, merge_edges=merged)
    run(search, 4)
    counts, expected = [int(oles.found.still.sum())], probe_below(probe, threshold)
    for step in range(4, 11):
        before, still = convolutions(search), oles.found.still.tolist()
        run(search, 1, step)
        counts.append(int(oles.found.still.sum()))
        for old, now, frozen, later in zip(before, convolutions(search), still, oles.found.still.tolist(), strict=True):
            assert later >= frozen
            assert all(torch.equal(a, b) == later for a, b in zip(old, now, strict=True))
    assert counts == sorted(counts)
    assert counts[0] == expected
    assert 0 < expected < len(still)


def probe_below(probe, threshold):
    """How many of another search's scores of three checks lie below a threshold."""
    return int((probe.learning.after.__self__.found.sums / 2 < threshold).sum())


def test_epochs_in_which_the_architecture_stays_have_no_check():
    search, oles = watched(2.0, 2)
    for step in range(5):
        search.step(batch(2 * step), batch(2 * step + 1), SearchSums(), learns=False)
    assert int(oles.found.checks) == 0
    run(search, 1, 5)
    assert int(oles.found.checks) == 1


@pytest.mark.parametrize("how", [{}, {"merge_edges": True}])
def test_it_can_be_recorded(how, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    search, _ = watched(0.4, 2, cuda_graph=True, precision="float32", **how)
    run(search, 2)  # what is made once is made in the first
    with Recordable():
        search.step(batch(0), batch(1), SearchSums())


def test_a_step_takes_no_pass_more_than_darts():
    search, _ = watched()
    passes, whole = [], search.passes._pass

    def counted(parameters, *others):
        passes.append(len(parameters))
        return whole(parameters, *others)

    search.passes._pass = counted
    run(search, 1)
    assert passes == [1 + len(search.weights), len(search.weights)]


def test_keys_make_it():
    found = compose(Method(weights="static", oles={"compare": "validation"}), get_space("darts"))
    (hook,) = (make() for make in found.hooks)
    assert (hook.threshold, hook.window, hook.accumulated) == (0.4, 20, False)
    assert found.learning.after.__self__ is hook
    assert compose(STATIC, get_space("darts")).hooks == ()


# --- killed and resumed


@pytest.mark.parametrize("stops", [[(0, 1), (1, 2)], [(1, 3), (2, 2)]])
def test_killed_and_resumed_it_leaves_the_same(search_run, tmp_path, monkeypatch, stops):
    method = {"weights": "static", "oles": {"window": 1, "threshold": 0.75}}
    run_ = search_run(epochs=3, method=method)
    search_step(run_, tmp_path / "whole")
    monkeypatch.setattr("midas.running.durable.Keeper.due", lambda self, seconds=None: True)
    images = load(run_.dataset, CPU)[0]
    for stop in (*stops, None):
        steps, reached = searching(run_, tmp_path / "search", CPU, images), []
        for place in steps:
            reached.append(place)
            if place == stop:
                steps.close()
        assert stop in (None, reached[-1])
    for name in ("arch.npz", "history.csv"):
        assert (tmp_path / "search" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with (tmp_path / "whole/history.csv").open(newline="") as file:
        frozen = [int(row["frozen"]) for row in csv.DictReader(file)]
    assert frozen == sorted(frozen)
    assert 0 < frozen[-1] < 3 * 6 * 2
