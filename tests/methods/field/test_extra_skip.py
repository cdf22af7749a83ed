"""DARTS-: numbers of the original; the supernet with extra skips equals the plain one; without weight it is first-order DARTS."""

import json
from itertools import pairwise, product

import pytest
import torch
from oracle import check_against_oracle, pair
from recordable import Recordable
from searching import history_of
from stepping import CPU, SETTINGS, STATIC, batch, same

from midas.config.method import Method
from midas.config.parts import ExtraSkip
from midas.methods.composition import compose
from midas.methods.field.extra_skip import DECAYS, skip_weight
from midas.search import search
from midas.spaces import SPACES
from midas.supernet.beside.skips import NodeSkips
from midas.supernet.candidates import EXTRA
from midas.supernet.cpu import kernels
from midas.supernet.mixture import plain
from midas.supernet.weights import NodeSlots, Skips, Weights, mix_images, mix_patches
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.sums import SearchSums

SOURCES = {
    "static": {"weights": "static"},
    "attention": {"patch_size": 4},
    "patch mixing": {"patch_size": 4, "mixing": "patch"},
}
WAYS = {
    "fast": {},
    "fast, merged": {"merged": True},
    "plain": {"fast": False},
}
SKIPS = {space: (SPACES[space], cells) for space, cells in (("nas_bench_201", 1), ("darts", 3), ("s1", 3))}


@pytest.fixture(scope="module")
def reference(shared_data):
    return {n: json.loads((shared_data / "reference" / f"{n}.json").read_text()) for n in ("darts_minus", "schedules")}


def searched(method, space="nas_bench_201", cells=1, epochs=4, **settings):
    """A search of random batches whose composition knows its length, its weights always the same at the start."""
    torch.manual_seed(0)
    settings = SETTINGS.model_copy(update={"cells": cells, "epochs": epochs, **settings})
    composition = compose(method, SPACES[space], epochs)
    return Bilevel(make_supernet(composition, settings, 10, CPU), settings, CPU, composition.learning)


def stepped(method, steps=2, first_epoch=0, **options):
    search, sums = searched(method, **options), SearchSums()
    search.begin(first_epoch)
    for step in range(steps):
        search.step(batch(2 * step), batch(2 * step + 1), sums)
    return search


def of(source, **part):
    return Method(**SOURCES[source], extra_skip=part)


# --- numbers of the original


def test_decays_are_those_of_the_original(reference):
    listed = reference["darts_minus"]["auxiliary_weight_50_epochs"]
    assert {name.lower() for name in listed} == set(DECAYS)
    for name, values in listed.items():
        weight = skip_weight(name.lower(), 1.0, 50)
        assert [float(weight(torch.tensor(e))) for e in range(50)] == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_the_default_is_the_linear_row_of_all_schedules(reference):
    weight = skip_weight(ExtraSkip().decay, ExtraSkip().first, 50)
    found = [float(weight(torch.tensor(epoch))) for epoch in range(50)]
    assert found == pytest.approx(reference["schedules"]["darts_minus_beta_50"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("mix", [mix_images, mix_patches])
@pytest.mark.parametrize("offered", [True, False])
def test_the_mixture_of_an_edge_is_that_of_the_original(reference, mix, offered):
    held = reference["darts_minus"]["mixed_op"]
    x = torch.tensor(held["x"], dtype=torch.float64)
    spec = SPACES["nas_bench_201"].cells["cell"]
    slots = NodeSlots(spec, SPACES["nas_bench_201"].operations, 1)
    slots.mapped, slots.keys = [0, 1, 2], [(0, "skip_connect" if offered else "a"), (0, "b"), (0, "c")]
    slots.places = torch.tensor(slots.mapped)
    skips = NodeSkips(spec, slots).double()
    candidates = [plain(factor * x, None) for factor in (1, -2, 0.5)]
    p = torch.tensor(held["w"], dtype=torch.float64)[None]
    for name, expected in held["cases"].items():
        more = skips({(0, EXTRA): plain(x, None)}, torch.tensor(float(name.removeprefix("beta_")), dtype=torch.float64))
        assert len(more.apart) == (0 if offered else 1)
        found = mix(Weights(p, None, p, p[:, None, None]), slots, candidates, more)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize("epochs", [1, 7, 50])
def test_decays_begin_at_the_first_weight_and_are_positive_in_the_last_epoch(name, epochs):
    found = [skip_weight(name, 0.5, epochs)(torch.tensor(epoch)) for epoch in range(epochs)]
    assert found[0] == 0.5
    assert all(x.shape == () for x in found)
    assert found[-1] > 0
    assert all(a >= b for a, b in pairwise(found))


# --- in the supernet


@pytest.mark.parametrize(("space", "cells"), SKIPS.values(), ids=SKIPS)
@pytest.mark.parametrize(
    ("source", "way"),
    [
        ("static", "fast"),
        ("static", "fast, merged"),
        ("static", "plain"),
        ("attention", "fast"),
        ("patch mixing", "fast"),
    ],
)
def test_a_supernet_with_extra_skips_equals_the_plain_one(space, cells, source, way):
    way = WAYS[way]
    check_against_oracle(space, {**SOURCES[source], "extra_skip": {"first": 0.75}}, cells=cells, **way)


def test_means_over_patches_that_the_attention_knows_are_those_of_the_whole_map():
    torch.manual_seed(0)
    merged, _, _ = pair(SPACES["darts"], of("attention", first=0.75), cells=3)
    seen = []
    merged.cells[0].observer = seen.append
    merged(torch.randn(3, 3, 16, 16, dtype=torch.float64))
    for view in seen:
        assert view.weights.means is not None
    skips = Skips(torch.tensor(0.5), torch.zeros(1), [], [plain(torch.ones(2, 3, 4, 4), (2, 2))] * 2)
    torch.testing.assert_close(skips.means(torch.ones(2, 4, 3)), torch.full((2, 4, 3), 2.0))
    assert skips.means(None) is None


@pytest.mark.parametrize(
    ("source", "space", "cells"),
    [("static", "nas_bench_201", 1), ("patch mixing", "nas_bench_201", 1), ("static", "s1", 3), ("attention", "s1", 3)],
)
def test_without_weight_it_is_darts_bit_for_bit(source, space, cells):
    for merge in (False, True):
        options = {"space": space, "cells": cells, "merge_edges": merge, "clip": 0.5}  # the extra gradients are 0
        plain_one = stepped(Method(**SOURCES[source]), **options)
        found = stepped(of(source, first=0.0), **options)
        own = {id(p) for p in found.supernet.skip_parameters()}
        assert bool(own) == (space == "s1")
        kept = [p for p in found.weights if id(p) not in own]
        for a, b in zip((*kept, *found.architecture), (*plain_one.weights, *plain_one.architecture), strict=True):
            assert torch.equal(a, b)
        assert not same_but(found, stepped(of(source), **options), own)


def same_but(found, other, own):
    numbers = [i for i, p in enumerate(found.weights) if id(p) not in own]
    return all(torch.equal(found.weights[i], other.weights[i]) for i in numbers)


def test_extra_parameters_are_drawn_from_another_stream_of_the_seed():
    found = [searched(of("static"), space="darts", cells=3) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(f.supernet.skip_parameters() for f in found), strict=True))
    torch.manual_seed(1)
    other = make_supernet(compose(of("static"), SPACES["darts"], 4), found[0].settings, 10, CPU)
    firsts = [c.reductions for c in other.cells[1].candidates if len(c.reductions)]
    assert not torch.equal(found[0].supernet.skip_parameters()[0], next(firsts[0].parameters()))
    numbers = [p.flatten()[0].item() for p in found[0].supernet.skip_parameters()]
    assert len(set(numbers)) == len(numbers)
    searched(of("static"), space="darts", cells=3)
    after = torch.rand(1)
    searched(STATIC, space="darts", cells=3)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(("space", "cells"), SKIPS.values(), ids=SKIPS)
def test_every_edge_has_one_and_no_weight_belongs_to_it(space, cells):
    method = of("static")
    supernet = compose(method, space, 4).supernet(4, cells, 10)
    plain_one = compose(STATIC, space, 4).supernet(4, cells, 10)
    for alpha, other in zip(supernet.architecture_parameters(), plain_one.architecture_parameters(), strict=True):
        assert alpha.shape == other.shape
    assert EXTRA not in supernet.space.operations
    for cell in supernet.cells:
        edges = [edge for c in cell.candidates for skipped in c.skipped for edge in skipped]
        assert sorted(edges) == list(range(len(cell.spec.edges)))
        reduced = [edge for c in cell.candidates if len(c.reductions) for skipped in c.skipped for edge in skipped]
        expected = [
            e for e, (source, _) in enumerate(cell.spec.edges) if cell.spec.stride == 2 and source < cell.spec.inputs
        ]
        assert sorted(reduced) == expected


# --- in a search


def test_its_weight_falls_epoch_by_epoch_and_a_checkpoint_keeps_it():
    search = searched(of("static"), epochs=4)
    found = []
    for epoch in range(4):
        search.begin(epoch)
        found.append(float(search.supernet.skip_weight.now))
    assert found == [1, 0.75, 0.5, 0.25]
    other = searched(of("static"), epochs=4)
    other.restore(search.state())
    assert float(other.supernet.skip_weight.now) == 0.25


@pytest.mark.parametrize("method", [{"perturbation": {}}, {"flat": {"rho": 0.1}}, {"alignment": {}}, {"unrolled": {}}])
def test_it_goes_with_other_parts(method):
    method = Method(weights="static", extra_skip={}, **method)
    found = stepped(method, space="darts", cells=3, steps=1, first_epoch=1, channels=2)
    assert all(p.isfinite().all() for p in (*found.weights, *found.architecture))
    plain_one = stepped(STATIC, space="darts", cells=3, steps=1, first_epoch=1, channels=2)
    assert not torch.equal(found.architecture[0], plain_one.architecture[0])


def test_a_masked_operation_leaves_the_extra_skip_where_it_is():
    search = searched(of("static"))
    nothing = {"cell": torch.zeros(6, 5, dtype=torch.bool)}
    search.restrictions.keep(nothing, renormalises=False)
    seen = []
    search.supernet.cells[0].observer = seen.append
    search.passes.forward(batch(0))
    stem = search.supernet.skeleton.stem(batch(0)[0])
    for view, factor in zip(seen, (1, 2, 4), strict=True):  # each node is the sum of those before it
        torch.testing.assert_close(view.output, factor * stem)


@pytest.mark.parametrize(("source", "space"), list(product(("static", "attention"), ("nas_bench_201", "darts"))))
def test_it_can_be_recorded_and_follows_the_epoch(source, space, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    cells = 1 if space == "nas_bench_201" else 3
    search = searched(of(source), space=space, cells=cells, cuda_graph=True, channels=2)
    search.begin(0)
    sums = SearchSums()
    for _ in range(2):
        search.step(batch(0), batch(1), sums)
    now = search.supernet.skip_weight.now
    search.begin(2)
    assert search.supernet.skip_weight.now is now
    with Recordable():
        search.step(batch(0), batch(1), sums)


def test_skip_connect_is_weighed_less_than_in_darts(search_run, tmp_path):
    runs = {"plain": {}, "beside": {"extra_skip": {"decay": "none"}}}
    found = {}
    for name, part in runs.items():
        folder = tmp_path / name
        search(search_run(method={"weights": "static", **part}, seed=1, epochs=8, arch_lr=0.02), folder)
        found[name] = [float(row["p_skip_connect"]) for row in history_of(folder)]
    assert found["beside"][-1] < found["plain"][-1] < 0.2


def test_two_searches_of_one_seed_are_the_same():
    assert same(stepped(of("static")), stepped(of("static")))
