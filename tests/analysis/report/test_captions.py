"""Captions of tables and figures: one each, filled in, their names and notes as text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from made_up_page import Balance
from made_up_results import NOTE
from places import ROOT

from midas.analysis.report import page as report
from midas.config.keys import Config
from midas.plan.further.listed import FURTHER
from midas.plan.plan import Plan
from midas.plan.shown import CELL_FIGURES

CAPTIONS = [path.relative_to(report.CAPTIONS).with_suffix("").as_posix() for path in report.CAPTIONS.rglob("*.rst")]


def snakemake_config(name: str) -> dict[str, Any]:
    """A configuration as Snakemake has it: without defaults."""
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["config", "test", "cifar10_cpu", "gpu", "paper"])
def test_every_caption_is_filled_in_whether_or_not_defaults_are(name):
    raw = snakemake_config(name)
    plan = Plan(Config.model_validate(raw))
    names = (
        [f"table_{number}" for number in plan.tables()]
        + [f"figure_{number:02d}" for number in plan.figures()]
        + ["claims"]
    )

    class Bare:
        model_dump = staticmethod(lambda mode: raw)

    for caption in names:
        text = report.caption(caption, plan.config)
        assert text == report.caption(caption, Bare())  # type: ignore[arg-type]
        assert report.short_title(text)
        assert plan.config.size in text
        assert "{" not in text


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_note_and_names_are_text_in_every_caption(name, demo):
    raw = demo.config.model_dump(mode="json") | {"note": f"{NOTE}\n\n - {NOTE}"}
    spaces = ("darts", "s1", "s2", "s3", "s4")
    first = next(e for e in raw["experiments"] if e["space"] == "darts") | {"dataset": "own_"}
    raw["experiments"] = [first | {"space": space} for space in spaces for _ in range(2)]
    raw["datasets"] = {"own_": {"kind": "npz", "path": "x.npz"}}
    raw["methods"]["_b_"] = raw["methods"]["midas"]
    raw["experiments"][0]["transfer"] = {"dataset": "own_", "methods": ["midas"]}
    raw["analysis"] |= {"dataset": "own_", "method": "_b_", "compare": ["_b_", "midas"]}
    text = " ".join(Balance(str(report.caption(name, Config.model_validate(raw)))).text.split())
    assert f"({NOTE} - {NOTE})" in text
    shown = (name.startswith("figure") and name not in ("figure_02", "figure_12")) or name == "table_3"
    assert ("own_" in text) == shown
    assert "_b_" in text or name not in ("figure_01", "figure_02", "figure_03", "figure_04", "figure_05")


def test_there_is_a_caption_for_every_table_and_figure():
    wanted = {f"table_{i}" for i in range(1, 7)} | {f"figure_{i:02d}" for i in range(1, 13)} | {"claims"}
    assert {path.stem for path in report.CAPTIONS.glob("*.rst")} == wanted
    further = {f"table_{module.TABLE.lower()}" for module in FURTHER}
    further |= {f"figure_{module.FIGURE.lower()}" for module in FURTHER if module.FIGURE}
    assert {path.stem for path in report.CAPTIONS.glob("further/*.rst")} == further
    assert set(CELL_FIGURES) == set(range(6, 12))
