"""Every table: no number is missing without a reason, LaTeX is balanced, sizes, notes and files are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_up_results import (
    NOTE,
    make_config,
    write_metrics,
    write_results,
)
from made_up_tables import NUMBERS, VARIANTS, Rendered, cells, full_config, own

from midas.analysis.tables import making as tables
from midas.analysis.tables import runs
from midas.analysis.tables.presentation import ALWAYS, LETTERS, TIDY, Block, Column, Table, write
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun


def test_this_configuration_has_every_table(plan: Plan) -> None:
    assert plan.tables() == NUMBERS == sorted(tables.TABLES)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_no_number_is_missing_without_a_reason(table: Callable[..., Rendered], number: int, variant: str) -> None:
    numbers, text, _ = table(number, variant)
    assert set(numbers.columns) <= set(TIDY)
    assert set(numbers.columns) >= ALWAYS
    empty = own(numbers)[own(numbers)["mean"].isna() & own(numbers)["best"].isna()]
    assert empty.empty or empty["missing"].notna().all()
    body, notes = text.rsplit("|\n", 1)
    used = set(re.findall(f"[{LETTERS}]", body))
    assert [line[2] for line in notes.splitlines() if line[2:3] in set(LETTERS)] == sorted(used, key=LETTERS.index)
    assert "nan" not in re.sub("[a-z]*nan[a-z]+", "", body)
    if re.search(r"— *\|", body):
        assert "- — in published rows: not stated by the source." in notes
    assert all(cell for row in cells(text) for cell in row)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_latex_is_balanced_and_escaped(table: Callable[..., Rendered], number: int, variant: str) -> None:
    _, _, latex = table(number, variant)
    assert latex.isascii()
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert latex.count(r"\begingroup") == latex.count(r"\endgroup")
    open_ones: list[str] = []
    for command, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if command == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert not open_ones
    for layout, body in re.findall(r"\\begin\{longtable\}\{([lr]+)\}(.*?)\\end\{longtable\}", latex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(layout) - 1}
    assert len(re.findall(r"(?<!\\)\$", latex)) % 2 == 0
    assert not re.search(r"(?<!\\)[%#~]", latex)
    assert "_" not in re.sub(r"\\_", "", latex)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_table_says_its_size(table: Callable[..., Rendered], number: int) -> None:
    _, text, latex = table(number)
    for form in (text, latex):
        assert "Size demo (made-up numbers, for tests only" in form
        assert "Not the paper's protocol" in form


@pytest.mark.parametrize("number", NUMBERS)
def test_a_table_without_its_files_names_one(tmp_path: Path, number: int) -> None:
    plan = full_config(tmp_path)
    with pytest.raises(ValueError, match=r"(metrics\.json: not a readable metrics|history\.csv: not a readable table)"):
        tables.make(PresentRun(number=number, config=plan.config), tmp_path)


def test_a_table_that_the_configuration_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table 6 does not exist at size demo; allowed: \[1, 2, 5\]"):
        tables.make(PresentRun(number=6, config=make_config(tmp_path)), tmp_path)


def test_a_number_that_is_none_names_file_and_key(tmp_path: Path) -> None:
    plan = full_config(tmp_path)
    write_results(plan, images=5)
    path = plan.folder("darts", "digits", "midas", 1) / "retrain/metrics.json"
    write_metrics(path, {"test_accuracy": "high", "params": 1}, 1.0)
    with pytest.raises(ValueError, match=r"midas/seed1/retrain/metrics\.json: test_accuracy is 'high', not a number"):
        tables.make(PresentRun(number=2, config=plan.config), tmp_path)


def test_a_note_is_text_in_markdown_and_latex(table: Callable[..., Rendered]) -> None:
    _, text, latex = table(2, "signs")
    caption = text.split("\n")[0]
    assert NOTE in re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", caption.replace("\\\\", "\0")).replace("\0", "\\")
    left = re.sub(r"\\[!-/:-@\[-`{-~]", "", caption.removeprefix("**Table 2.**"))
    assert not re.search(r"[*`$|<>\[\]~\\]|\b_|_\b", left)
    for sign, written in (("$", r"5\$ of \$x\_\{"), ("_", r"\_c\_"), ("%", r"50 \% \#1"), ("&", r"$<$e$>$ \& f\_")):
        assert sign in NOTE
        assert written in latex
    assert r"\textbackslash{}frac" in latex


def test_a_table_of_this_projects_own_is_numbered_apart(tmp_path: Path) -> None:
    number = {"method": "midas", "quantity": "a", "mean": 1.5, "n": 1, "status": "measured", "missing": ""}
    block = Block("", {"method": "Method"}, [Column("A", "a")], pd.DataFrame([{**runs.BLANK, **number}]))
    write(Table("S2", "What it is.", [block], []), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table_s2.csv", "table_s2.md", "table_s2.tex"]
    assert (tmp_path / "table_s2.md").read_text().startswith("**Table S2.** What it is.")
    latex = (tmp_path / "table_s2.tex").read_text()
    assert r"\setcounter{table}{1}" in latex
    assert r"\renewcommand{\thetable}{S\arabic{table}}" in latex
