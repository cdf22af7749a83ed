"""The page with all results: whole, by itself, and with what the plan lists."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_claims import make_config
from made_up_page import TABLE_MD, Balance, write_results
from made_up_results import NOTE
from places import ROOT

from midas.analysis import markdown
from midas.analysis.claims.judging import judge_all
from midas.analysis.claims.writing import to_markdown
from midas.analysis.report import page as report
from midas.plan.runs import PresentRun


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(demo):
    page = Balance(report.render(demo, demo.root))
    assert page.found["script"] == []
    assert len(page.found["id"]) == len(set(page.found["id"]))
    assert all(source.startswith("data:image/png;base64,") for source in page.found["src"])
    assert len(page.found["src"]) == len(demo.figures()) + 1 == 13  # S1
    inner = {link[1:] for link in page.found["href"] if link.startswith("#")}
    assert inner <= set(page.found["id"])
    assert not [link for link in page.found["href"] if "://" in link or link.startswith("/")]
    assert "{{" not in page.text


def test_the_page_shows_size_claims_tables_figures_and_configuration(demo):
    text = Balance(report.render(demo, demo.root)).text
    shown = [
        "size demo",
        demo.config.note[1:],
        "8 not tested at this size",
        "Table 1",
        "Table S4",
        "Figure 1.",
        "Figure S1.",
        "seeds: [0, 1]",
    ]
    assert all(words in text for words in shown)
    assert text.index("Claims") < text.index(shown[2])
    assert "The table's own caption" not in text  # the caption of workflow/report stands in its place
    assert "don't compare with the paper's" in text


def test_links_lead_to_files_of_results(demo):
    links = set(Balance(report.render(demo, demo.root)).found["href"])
    measured = [link for link in links if link.endswith("retrain/metrics.json") and "/midas/" in link]
    assert len(measured) == len([e for e in demo.config.experiments if "midas" in e.methods]) * len(demo.config.seeds)
    assert all((demo.root / link).exists() for link in measured)
    assert "tables/table_1.csv" in links
    assert "../../figures/demo/figure_01.pdf" in links


def test_only_what_the_plan_lists_is_shown(tmp_path):
    config = make_config("config", tmp_path / "results", figures_dir=str(tmp_path / "figures"), analysis=None)
    plan = write_results(
        config.model_copy(update={"experiments": config.experiments[:1], "ranks": None, "functions": None})
    )
    page = Balance(report.render(plan, plan.root))
    assert [name for name in page.found["id"] if name.startswith(("table-", "figure-"))] == [
        "table-1",
        "table-S3",
        "figure-12",
    ]


def test_the_papers_protocol_is_not_marked_as_another(tmp_path):
    plan = write_results(make_config("paper", tmp_path / "results", figures_dir=str(tmp_path / "figures")))
    text = Balance(report.render(plan, plan.root)).text
    assert "don't compare with the paper's" not in text
    assert "8 reproduced" in text


def test_equal_results_give_equal_pages(demo):
    assert report.render(demo, demo.root) == report.render(demo, demo.root)


def test_missing_files_are_all_named(demo):
    gone = [demo.root / "rulegraph.dot", demo.root / "tables/table_2.md"]
    for path in gone:
        path.unlink()
    with pytest.raises(ValueError, match="missing") as error:
        report.render(demo, demo.root)
    assert str(error.value).splitlines() == [f"{path}: missing" for path in gone]


def test_the_command_writes_the_page(demo):
    run = PresentRun(config=demo.config).model_dump_json()
    command = [sys.executable, "-m", "midas.analysis.report", run, str(demo.root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    Balance((demo.root / "report.html").read_text())
    (demo.root / "claims.json").write_text("[]")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_a_note_is_text_in_the_page_and_in_the_claims(demo):
    config = demo.config.model_copy(update={"note": NOTE})
    judged = judge_all(config)
    lines = to_markdown(judged).splitlines()
    assert f"{markdown.plain(NOTE)}." in lines[2]
    claim = judged["claims"][0] | {"text": "a|b", "expected": "|"}
    rows = [line for line in to_markdown(judged | {"claims": [claim]}).splitlines() if line.startswith("| C")]
    assert r"| a\|b | \| |" in rows[0]


def test_a_table_in_markdown_keeps_marks_italics_and_notes():
    page = markdown.to_html(TABLE_MD)
    Balance(page)
    assert "<p><strong>Found | cells</strong> heading</p>" in page
    assert "<tr><td><em>old†</em></td>" in page
    assert '<td class="number">—ᵃ</td>' in page
    assert "<td>a|b</td>" in page
    assert "<li>ᵃ named in <code>ablation</code> &amp; &lt;alone&gt;.</li>" in page


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40))
def test_no_text_breaks_out_of_its_cell(text):
    page = Balance(markdown.to_html(f"| a |\n|---|\n| {markdown.cell(text)} |"))
    assert page.found["script"] == []
