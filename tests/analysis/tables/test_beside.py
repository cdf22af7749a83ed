"""Our rows of the field's methods beside the published ones."""

import numpy as np
import pandas as pd
import pytest
from places import ROOT
from scipy import stats

from midas.analysis import literature
from midas.analysis.literature.originals import FAIR, FIXED, OF_PARTS, PERTURBED, differing, original_of
from midas.analysis.statistics.seeds import against
from midas.analysis.tables.making import make
from midas.config.method import Method
from midas.config.parts import PARTS
from midas.config.protocols import PROTOCOLS
from midas.config.reading import read_config
from midas.config.settings import Search
from midas.plan.check import load
from midas.plan.runs import PresentRun


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"weights": "static"}, "DARTS-1st"),
        ({"weights": "static", "unrolled": {}}, "DARTS-2nd"),
        ({"weights": "static", "beta": {"per_epoch": 0.1}}, "beta-DARTS"),
        ({"weights": "static", "perturbation": {"kind": "adversarial"}}, "SDARTS-ADV"),
        ({"weights": "static", "alignment": {"weight": 0}}, "DARTS-1st"),
        ({"weights": "static", "alignment": {}}, "Lambda-DARTS"),
        ({"weights": "static", "taken": {"by": "valid_accuracy"}}, None),
        ({"weights": "static", "flat": {}, "taken": {}}, "A2M-DARTS"),
        ({"weights": "static", "selection": {"fixed": True}}, "DARTS+PT (fixed alpha)"),
        ({"weights": "static", "dirichlet": {}}, "DrNAS"),
        ({"weights": "static", "extra_skip": {}}, "DARTS-"),
        ({"weights": "static", "distribution": "sigmoid", "separation": {}, "sparse": {}}, "FairDARTS"),
        ({"weights": "static", "distribution": "sigmoid"}, None),
        ({"weights": "static", "oles": {}}, "OLES"),
        ({"weights": "static", "selection": {}}, "DARTS+PT"),
        ({"weights": "static", "partial": {}, "warmup_epochs": 15}, "PC-DARTS"),
        ({"weights": "static", "beta": {}, "flat": {}}, None),
        ({"weights": "static", "distribution": "node"}, None),
        ({}, "MIDAS"),
        ({"detach": True, "decode_none": False}, "MIDAS"),
        ({"patch_size": None}, None),
        ({"flat": {}}, None),
        ({"weights": "random"}, None),
    ],
)
def test_a_method_is_known_by_its_parts(keys, name):
    found = original_of(Method.model_validate(keys))
    assert (found and found.published) == name


def test_every_original_is_published_somewhere_and_searched_by_known_settings():
    published = set(pd.concat([literature.load(name) for name in ("nas_bench_201", "darts", "rdarts")])["method"])
    for parts in OF_PARTS:
        assert parts <= PARTS.keys()
    for original in (FAIR, FIXED, *OF_PARTS.values(), *PERTURBED.values()):
        assert original.published in published
        for protocol, changes in original.protocols.values():
            assert changes.keys() <= {*PROTOCOLS[protocol], "statistics"}


def test_settings_that_differ_are_told_with_theirs():
    original = OF_PARTS[frozenset({"alignment"})]
    theirs = Search(protocol="N100", arch_lr=1e-4, order="weights_first", valid_batches="shuffled")
    assert differing(theirs, original, "nas_bench_201") == "statistics (not established)"
    ours = theirs.model_copy(update={"epochs": 12, "arch_lr": 3e-4, "precision": "bfloat16"})
    assert (
        differing(ours, original, "nas_bench_201")
        == "epochs 12 (100), arch_lr 0.0003 (0.0001), statistics (not established)"
    )
    assert (
        differing(Search(protocol="D50", batch_size=96, valid_batches="shuffled"), original, "s1")
        == "statistics (not established)"
    )
    assert differing(ours, OF_PARTS[frozenset()], "s1") == "not stated"


def test_one_sample_against_a_known_mean():
    values = [93.1, 93.9, 93.4, 93.2]
    found = against(values, 93.0)
    expected = stats.ttest_1samp(values, 93.0)
    assert found["p_value"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert [found["low"], found["high"]] == pytest.approx([low - 93.0, high - 93.0])
    assert found["verdict"] == ("significant at 0.05" if expected.pvalue < 0.05 else "not significant")
    for few in ([1.0], [1.0, 1.2]):
        assert against(few, 2.0) == {
            "mean": np.mean(few) - 2,
            "n": len(few),
            "verdict": "fewer than three seeds: no test",
        }
    assert against([1.0, 1.0, 1.0], 2.0)["verdict"] == "no variation over seeds: no test"


def test_the_published_row_stands_beside_ours(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    plan = load(read_config(ROOT / "results/published/attention_cpu/config.yaml", []))
    make(PresentRun(number=1, config=plan.config), tmp_path)
    text = (tmp_path / "table_1.md").read_text()
    block = text.split("**Our rows of the field's methods")[1].split("**")[1]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines() if line.startswith("| static")
    ]
    assert [row[:3] for row in rows] == [
        ["static", "DARTS-1st", f"{data} test"] for data in ("CIFAR-10", "CIFAR-100", "ImageNet16-120")
    ]
    assert [row[4].split()[0] for row in rows] == ["54.30", "15.61", "16.32"]
    table = pd.read_csv(tmp_path / "table_1.csv")
    own = table[
        (table["method"] == "static") & (table["quantity"] == "c10_test_acc_200") & (table["group"] == "this project")
    ]
    assert rows[0][3].split()[0] == f"{np.mean(own['mean']):.2f}"
    assert "static: settings (theirs) other than in DARTS-1st's search: channels 4 (16), cells 1 (5), " in text
