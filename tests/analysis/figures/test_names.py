"""Classes, groups, methods and notes may be called anything; their text is drawn as text."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from drawn_figures import NUMBERS, drawn, texts
from made_up_results import NOTE, make_config, with_config, write_results
from matplotlib.figure import Figure
from matplotlib.text import Text

from midas.analysis.figures import drawing as figures
from midas.analysis.figures import style
from midas.analysis.results import load_table
from midas.analysis.statistics.writing import statistics
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

STRANGE = ["NA", "None", "null", "nan", "00001", "1e5", "True", "inf", "N/A", "-"]
"""Names that are read as something else where nobody says that they are text."""


def named(root: Path, names: list[str], groups: dict[str, list[str]], note: str = "made up") -> Plan:
    """A plan with results whose ten classes have these names."""
    chosen = {"space": "darts", "dataset": "digits", "method": "midas", "compare": ["midas"], "groups": groups}
    plan = Plan(make_config(root, analysis=chosen, note=note))
    write_results(plan)
    for path in plan.root.rglob("arch.npz"):
        arrays = dict(np.load(path))
        np.savez(path, **arrays | {"classes": np.array(names)})
    statistics(PresentRun(config=plan.config), plan.root / "analysis")
    return plan


def axis_names(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_classes_may_be_called_anything(tmp_path: Path) -> None:
    groups = {"None": ["nan", "00001"], "NA": ["NA", "null"]}
    plan, plain = (
        named(
            tmp_path / place,
            names,
            {group: [names[STRANGE.index(name)] for name in members] for group, members in groups.items()},
        )
        for place, names in (("strange", STRANGE), ("plain", list("abcdefghij")))
    )
    table = load_table(plan.root / "analysis/similarity.csv", ())
    assert table["class_a"].tolist() == [name for _ in plan.config.seeds for name in STRANGE for _ in STRANGE]
    figure, other = drawn(4, plan.config), drawn(4, plain.config)
    order = ["nan", "00001", "NA", "null", "None", "1e5", "True", "inf", "N/A", "-"]
    assert axis_names(figure) == order
    assert axis_names(other) == ["abcdefghij"[STRANGE.index(name)] for name in order]
    for part in (0, 1):  # the same picture but for the names
        first, second = (f.axes[part].collections[0].get_array() for f in (figure, other))
        np.testing.assert_array_equal(first, second)
        assert len(figure.axes[part].patches) == 2
    found, expected = (json.loads((p.root / "analysis/metrics.json").read_text())["groups"] for p in (plan, plain))
    assert found["p_value"] is not None
    assert {k: found[k] for k in ("within", "between", "p_value")} == {
        k: expected[k] for k in ("within", "between", "p_value")
    }


def test_methods_may_be_called_anything(plan: Plan, tmp_path: Path) -> None:
    path = plan.root / "analysis/weights.csv"
    for name in ("nan", "null", "00001", "1e5"):
        rows = [line.replace("midas,", f"{name},", 1) for line in path.read_text().splitlines()]
        (tmp_path / "weights.csv").write_text("\n".join(rows))
        table = load_table(tmp_path / "weights.csv", ("method", "share"))
        assert name in set(table["method"])
        expected = load_table(path, ())
        assert table.drop(columns="method").equals(expected.drop(columns="method"))


def test_a_class_whose_similarity_is_undefined_stays_as_undefined(plan: Plan, tmp_path: Path) -> None:
    own = with_config(plan, results_dir=str(tmp_path))
    (own.root / "analysis").mkdir(parents=True)
    (own.root / "analysis/metrics.json").write_bytes((plan.root / "analysis/metrics.json").read_bytes())
    table = pd.read_csv(plan.root / "analysis/similarity.csv")
    table.loc[(table["class_a"] == 3) | (table["class_b"] == 3), "cosine_centred"] = np.nan
    table.to_csv(own.root / "analysis/similarity.csv", index=False)
    figure = drawn(4, own.config)
    for part, undefined in ((0, 0), (1, 2 * 9)):
        values = figure.axes[part].collections[0].get_array()
        assert values.shape == (10, 10)
        assert np.ma.count_masked(values) == 10 + undefined
    assert "3" in axis_names(figure)
    assert [ax.get_xlabel().endswith("undefined: 3") for ax in figure.axes[:2]] == [False, True]
    table["cosine"] = np.nan
    table.to_csv(own.root / "analysis/similarity.csv", index=False)
    assert "undefined: " in drawn(4, own.config).axes[0].get_xlabel()


# --- a user's text is text


DOLLARS = ["$", "a$b$", "$x_{$", r"\$", "$$", r"$\frac$", "_", "%", "&", "<b>"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_note_with_dollar_signs_is_drawn_as_it_is(plan: Plan, tmp_path: Path, number: int) -> None:
    config = with_config(plan, note=NOTE).config
    figures.draw(PresentRun(number=number, config=config), tmp_path)
    note = next(text for text in texts(drawn(number, config)) if text.startswith("size demo: "))
    assert " ".join(note.split()) == f"size demo: {NOTE}"


def test_classes_and_groups_with_dollar_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    plan = named(tmp_path, DOLLARS, {"$a": ["$", "$$"], r"$\b$": ["%", "_"]}, NOTE)
    for number in (1, 4):
        figures.draw(PresentRun(number=number, config=plan.config), tmp_path)
    figure = drawn(4, plan.config)
    assert axis_names(figure) == ["$", "$$", "%", "_", "a$b$", "$x_{$", r"\$", r"$\frac$", "&", "<b>"]
    assert figure.axes[1].get_xlabel().startswith(r"$a / $\b$: within")
    assert any(text.startswith("“\\$”\n") for text in texts(drawn(1, plan.config)))  # of the class 3


@pytest.mark.parametrize("number", NUMBERS)
def test_formulas_are_those_of_this_project_alone(plan: Plan, number: int) -> None:
    figure = drawn(number, plan.config)
    formulas = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert all(text.get_parse_math() for text in formulas)
    assert formulas or number == 12  # it has one panel, and no letter


def test_a_panels_text_is_text_beside_its_letter() -> None:
    with matplotlib.rc_context(style.RC):
        figure = Figure()
        style.panel_label(figure.subplots(), "a", r"$x_{$ and \$")
        figure.draw_without_rendering()
