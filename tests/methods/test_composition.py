"""Keys of a method become the parts of a search, and whole searches of each part run, are killed and resumed."""

import pytest
import torch
from searching import assert_same, finished
from stepping import parameters, stepped

from midas import search as module
from midas.config.method import Method
from midas.methods.composition import compose
from midas.methods.learning import first_order, on_train
from midas.spaces import get_space

NAS = get_space("nas_bench_201")
PARTS = {
    "second order": {"unrolled": {}},
    "A2M": {"flat": {"rho": 0.1}},
    "beta": {"beta": {"per_epoch": 5.0}},
    "Lambda": {"alignment": {"weight": 5.0}},
    "SDARTS random": {"perturbation": {}},
    "DrNAS": {"dirichlet": {}},
    "SDARTS adversarial": {"perturbation": {"kind": "adversarial", "steps": 2}},
    "DARTS-": {"extra_skip": {"decay": "none"}},
}
SOURCES = {"static": {"weights": "static"}, "attention": {"patch_size": 4}}


def test_without_parts_a_method_is_first_order_darts():
    found = compose(Method(weights="static"), NAS, 50)
    assert found.learning.architecture is first_order
    assert found.learning.weights is on_train
    assert found.learning.terms == ()
    assert found.choice.column is None


def test_the_epoch_that_is_taken():
    found = compose(Method(taken={"by": "valid_accuracy", "patience": 3}), NAS, 50).choice
    assert (found.column, found.largest, found.patience) == ("valid_accuracy", True, 3)
    assert not compose(Method(taken={}), NAS, 50).choice.largest  # the lowest loss


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("part", PARTS)
def test_each_part_changes_a_search_of_each_source_that_it_goes_with(part, source):
    if part in ("beta", "DrNAS") and source == "attention":
        pytest.skip("it is of static weights")
    method = Method(**SOURCES[source], **PARTS[part])
    own, plain = (
        stepped(compose(m, NAS, 2).learning, method=m, first_epoch=1) for m in (method, Method(**SOURCES[source]))
    )
    differ = [not torch.equal(a, b) for a, b in zip(parameters(own), parameters(plain), strict=True)]
    assert any(differ)
    assert all(p.isfinite().all() for p in parameters(own))


PARTS_OF_A_SEARCH = {
    **PARTS,
    "DARTS-": {"extra_skip": {}},
    "taken": {"taken": {"by": "valid_accuracy"}},
    "PC-DARTS": {"partial": {}, "warmup_epochs": 1},
}


@pytest.mark.parametrize(
    "part", ["A2M", "Lambda", "SDARTS random", "SDARTS adversarial", "DARTS-", "taken", "PC-DARTS"]
)
def test_a_search_with_a_part_is_killed_and_resumed(part, search_run, tmp_path, monkeypatch):
    run = search_run(method={"weights": "static", **PARTS_OF_A_SEARCH[part]})
    reference = finished(run, tmp_path / "whole")

    class KilledError(Exception):
        pass

    taken, step = [], module.Searching._end

    def killed(self, epoch):
        step(self, epoch)
        taken.append(1)
        if len(taken) == 2:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(module.Searching, "_end", killed)
        with pytest.raises(KilledError):
            module.search(run, tmp_path / "search")
    module.search(run, tmp_path / "search")
    assert_same(tmp_path / "search", reference)
