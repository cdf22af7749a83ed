"""The rule that chooses the default of the attention: gate, ranks, ties."""

import pandas as pd
import pytest
import yaml
from places import ROOT

from benchmarks import choice


def table(**values):
    """Rows of table 5: for each quantity a value of each variant, 50 where none is given; spread 2."""
    rows = [
        {"method": method, "quantity": quantity, "mean": given.get(method, 50.0), "std": 2.0}
        for quantity, given in {name: values.get(name, {}) for name in (*choice.RANKED, choice.TRAINED)}.items()
        for method in choice.VARIANTS
    ]
    return pd.DataFrame(rows)


def chosen(shallow, deep):
    return choice.ranks(shallow, deep).iloc[0]["method"]


def test_what_trains_worse_than_the_former_default_by_more_than_its_spread_is_out():
    best = {"agreement_between_seeds": {"length": 60.0}, "c10_valid_acc_200": {"length": 60.0}}
    assert chosen(table(**best), table(**best, supernet_valid_accuracy={"length": 48.0})) == "length"
    assert chosen(table(**best), table(**best, supernet_valid_accuracy={"length": 47.9})) != "length"
    found = choice.ranks(table(**best), table(**best, supernet_valid_accuracy={"length": 47.9}))
    assert not found.set_index("method").loc["length", "trains"]
    assert found.iloc[-1]["method"] == "length"
    assert "| length | 47.90: out |" in choice.words(found)


def test_the_lowest_sum_of_four_ranks_is_chosen_and_equal_values_share_a_rank():
    shallow = table(agreement_between_seeds={"relu": 70.0}, c10_valid_acc_200={"relu": 40.0, "length": 60.0})
    deep = table(agreement_between_seeds={"relu": 70.0, "length": 70.0}, c10_valid_acc_200={"length": 60.0})
    found = choice.ranks(shallow, deep).set_index("method")
    # length: (2 + ... + 12) / 11 = 7 at one cell, then 1, 1.5, 1; relu: 1, 12, 1.5 and 7
    assert found.loc["length", "sum"] == pytest.approx(7 + 1 + 1.5 + 1)
    assert found.loc["relu", "sum"] == pytest.approx(1 + 12 + 1.5 + 7)
    assert chosen(shallow, deep) == "length"


def test_means_that_differ_in_their_last_bit_alone_are_equal():
    shared = {"length": 1 / 6 + 1 / 3 + 1 / 2, "relu": 1 / 2 + 1 / 3 + 1 / 6}
    assert shared["length"] != shared["relu"]
    found = choice.ranks(table(agreement_between_seeds=shared), table()).set_index("method")
    assert found.loc["length", "rank_agreement_shallow"] == found.loc["relu", "rank_agreement_shallow"]


def test_a_tie_goes_to_the_way_nearest_to_the_former_default():
    assert chosen(table(), table()) == "scaled_decay"
    assert [choice.differing(name) for name in ("scaled_detached_decay", "length", "relu_detached")] == [1, 3, 6]


def test_the_variants_are_those_of_the_configuration():
    config = yaml.safe_load((ROOT / "config/attention_cpu.yaml").read_text())
    assert set(choice.VARIANTS) == set(config["methods"]) - {"static", "random"}
    former = config["methods"]["scaled_decay"]
    for name in choice.VARIANTS:
        own = config["methods"][name]
        keys = {key for key in own.keys() | former.keys() if own.get(key) != former.get(key)}
        assert len(keys) == choice.differing(name), name
