"""Running statistics of the supernet: those of the plain one, moved by training alone, used where it is evaluated."""

import csv
import json

import pytest
import torch
from oracle import pair
from stepping import batch
from torch import nn

from midas.config.method import Method
from midas.config.settings import Search
from midas.methods.composition import compose
from midas.methods.learning import Step
from midas.running import limits
from midas.running.limits import Limits
from midas.search import search as search_step
from midas.spaces import SPACES
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.searching import Searching
from midas.training.sums import SearchSums

CPU = torch.device("cpu")
RUNNING = {"fast": False, "statistics": "running"}


def track(plain):
    for norm in [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]:
        fresh = nn.BatchNorm2d(norm.num_features)
        norm.track_running_stats = True
        norm.running_mean, norm.running_var = fresh.running_mean.double(), fresh.running_var.double()
        norm.num_batches_tracked = fresh.num_batches_tracked


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("nas_bench_201", {"weights": "static"}),
        ("nas_bench_201", {"patch_size": 4}),
        ("darts", {"weights": "static"}),
        ("darts", {"weights": "static", "extra_skip": {}}),
        ("nas_bench_201", {"weights": "static", "partial": {"channels": 2, "edges": False}}),
    ],
)
def test_evaluated_it_equals_the_plain_supernet(space, options, merged):
    torch.manual_seed(0)
    mine, plain, _ = pair(SPACES[space], Method(**options), fast=False, merged=merged)
    mine.keep_statistics()
    mine.double()
    track(plain)
    x = torch.randn(4, 3, 3, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 2, 0.5, 1]).view(4, 1, 1, 1, 1)
    for seen in x[:3]:
        torch.testing.assert_close(mine(seen), plain(seen), rtol=1e-10, atol=1e-10)
    plain.eval()
    with mine.evaluated():
        found = mine(x[3])
        again = mine(x[3])
    torch.testing.assert_close(found, plain(x[3]), rtol=1e-10, atol=1e-10)
    assert torch.equal(found, again)  # it moves nothing
    assert not torch.allclose(found, mine(x[3]), rtol=1e-3)  # with the batch's own


def bilevel(method, **settings):
    torch.manual_seed(0)
    settings = Search(channels=4, cells=1, epochs=4, batch_size=8, **settings)
    composition = compose(method, SPACES["nas_bench_201"], 4)
    return Bilevel(make_supernet(composition, settings, 10, CPU), settings, CPU, composition.learning)


def test_the_steps_of_first_order_darts_do_not_depend_on_them():
    found = []
    for how in ({"fast": False}, RUNNING):
        search = bilevel(Method(weights="static"), **how)
        for step in range(3):
            search.step(batch(2 * step), batch(2 * step + 1), SearchSums())
        found.append([*search.weights, *search.architecture])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_an_attack_sees_running_statistics_and_moves_none():
    method = Method(weights="static", perturbation={"kind": "adversarial"})
    search = bilevel(method, **RUNNING)
    search.step(batch(0), batch(1), SearchSums())
    search.begin(3)
    modes, counted = [], [b.clone() for name, b in search.supernet.named_buffers() if name.endswith("tracked")]
    search.supernet.skeleton.register_forward_hook(lambda module, *_: modes.append(module.training))
    search.learning.weights(Step(search.passes, batch(2), batch(3), search.weight_optimizer, search.restrictions))
    assert modes == [False] * 9 + [
        True
    ]  # a pass forward, seven of the attack, another forward; then that of the weights
    now = [b for name, b in search.supernet.named_buffers() if name.endswith("tracked")]
    assert all(b == a + 1 for a, b in zip(counted, now, strict=True))


def test_a_search_with_them_is_evaluated_at_each_epochs_end_and_goes_on_after_a_kill(search_run, tmp_path, monkeypatch):
    method = {"weights": "static", "taken": {"by": "valid_accuracy"}}
    found = {}
    for name, how in (("batch", {"fast": False}), ("running", RUNNING)):
        search_step(search_run(method=method, **how), tmp_path / name / "search")
        with (tmp_path / name / "search/history.csv").open(newline="") as file:
            found[name] = list(csv.DictReader(file))
    assert [row["train_loss"] for row in found["batch"]] == [row["train_loss"] for row in found["running"]]
    assert [row["valid_loss"] for row in found["batch"]] != [row["valid_loss"] for row in found["running"]]
    numbers = json.loads((tmp_path / "running/search/metrics.json").read_text())
    decoded = found["running"][numbers["decoded_epoch"] - 1]
    assert numbers["valid_accuracy"] == pytest.approx(float(decoded["valid_accuracy"]))  # both of the whole half
    assert max(float(row["valid_accuracy"]) for row in found["running"]) == float(decoded["valid_accuracy"])

    step, taken = Bilevel.weight_step, []

    def killed(self, *arguments):
        step(self, *arguments)
        taken.append(1)
        if len(taken) == 5:
            raise KeyboardInterrupt

    run = search_run(method=method, **RUNNING)
    with monkeypatch.context() as patch:
        patch.setattr(Bilevel, "weight_step", killed)
        with pytest.raises(KeyboardInterrupt):
            search_step(run, tmp_path / "killed/search")
    search_step(run, tmp_path / "killed/search")
    for file in ("history.csv", "arch.npz"):
        assert (tmp_path / "killed/search" / file).read_bytes() == (tmp_path / "running/search" / file).read_bytes()


def test_what_is_drawn_in_the_evaluation_is_the_same_after_a_kill(search_run, tmp_path, monkeypatch):
    """Saved after the last step of an epoch, killed before it is evaluated; GDAS draws in every pass."""
    run = search_run(method={"weights": "static", "gumbel": {}}, **RUNNING)
    search_step(run, tmp_path / "whole/search")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(limits._Asked, "limits", Limits(save_every=0.0))
    with monkeypatch.context() as patch:
        patch.setattr(Searching, "_end", killed)
        with pytest.raises(KeyboardInterrupt):
            search_step(run, tmp_path / "killed/search")
    search_step(run, tmp_path / "killed/search")
    histories = [(tmp_path / name / "search/history.csv").read_bytes() for name in ("whole", "killed")]
    assert histories[0] == histories[1]
