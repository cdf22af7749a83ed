"""One word for the settings of an original's search, and settings of single methods."""

import pytest
from pydantic import ValidationError

from midas.config.keys import Experiment
from midas.config.protocols import PROTOCOLS, switches
from midas.config.settings import Search


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_all_that_it_stands_for(name):
    found = Search.model_validate({"protocol": name}).model_dump()
    assert {key: found[key] for key in PROTOCOLS[name]} == PROTOCOLS[name]


def test_what_is_said_beside_a_protocol_goes_first():
    found = Search.model_validate({"protocol": "A50", "channels": 4, "nesterov": False})
    assert (found.channels, found.nesterov, found.epochs, found.weight_decay) == (4, False, 50, 5e-4)


def test_protocols_differ_as_the_originals_do():
    assert switches(Search(protocol="D50").model_dump()) == ["each validation batch from a fresh shuffle"]
    assert switches(Search(protocol="A50").model_dump()) == [
        "weights learn before the architecture",
        "validation images drawn one by one",
        "Nesterov's momentum",
        "the architecture's gradient counts in clipping",
    ]
    assert switches(Search(cells=1, epochs=1).model_dump()) == []


def experiment(**search_of):
    search = {"cells": 1, "epochs": 3, "channels": 4, "lr": 0.1}
    return Experiment(space="nas_bench_201", dataset="digits", methods=["a", "b"], search=search, search_of=search_of)


def test_a_method_may_have_settings_of_its_own():
    found = experiment(b={"arch_lr": 1e-4, "epochs": 5})
    assert found.search_by("a") == found.search
    assert found.search_by("b") == found.search.model_copy(update={"arch_lr": 1e-4, "epochs": 5})


def test_a_methods_protocol_replaces_what_it_names():
    found = experiment(b={"protocol": "N100", "channels": 8}).search_by("b")
    assert (found.protocol, found.channels, found.cells, found.epochs, found.lr) == ("N100", 8, 5, 100, 0.025)


@pytest.mark.parametrize("wrong", [{"lr": -1}, {"lr": None}, {"batch_size": 1}, {"protocol": "C10"}, {"rate": 1}])
def test_wrong_settings_of_a_method_are_refused(wrong):
    with pytest.raises(ValidationError, match=r"search_of\.b\." + next(iter(wrong))):
        experiment(b=wrong)
