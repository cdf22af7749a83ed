"""The page with all results: markdown and rule graph as HTML, captions, facts of runs, the page as a whole."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_analysis import NOTE
from test_claims import fabricate, make_config

from midas.analysis import markdown, run_facts
from midas.analysis.claims import writing as claims
from midas.analysis.claims.judging import judge_all
from midas.analysis.report import page as report
from midas.analysis.report import rulegraph
from midas.config.keys import Config
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.plan.shown import CELL_FIGURES

ROOT = Path(__file__).parent.parent
VOID = {"meta", "img", "br", "path", "rect"}
TABLE_MD = """**Table 1.** The table's own caption.

**Found | cells** heading

| Method   | n   | Error (%)   |
|:---------|:----|:------------|
| midas    | 2   | 3.19 ± 0.20 |
| *old†*   | 1   | *2.40*      |
| a\\|b     | 1   | —ᵃ          |

- † not confirmed; set in italics.
- ᵃ named in `ablation` & <alone>.
"""
DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
	0[label = "all", color = "0.0 0.6 0.85", style="rounded"];
	1[label = "table_1"]; 2[label = "table_2"]; 3[label = "search"]; 4[label = "data"]
	5[label = "figure_01"]; 6[label = "report"]
	1 -> 0
	6 -> 0
	3 -> 1
	4 -> 1
	3 -> 2
	4 -> 3
	4 -> 5
	1 -> 6
	2 -> 6
	5 -> 6
	3 -> 6
}"""


class Balance(HTMLParser):
    """Checks that what is opened is closed, and gathers links, identifiers, images and text."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.found: dict[str, list[str]] = {"href": [], "id": [], "src": [], "script": []}
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.found["script"] += ["yes"] if tag == "script" else []
        for key, value in attrs:
            if key in self.found:
                self.found[key].append(str(value))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def png() -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def write_results(config: Config) -> Plan:
    """What the report reads, with little in it."""
    plan = Plan(fabricate(config))
    for number in plan.tables():
        path = plan.root / f"tables/table_{number}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TABLE_MD.replace("Table 1", f"Table {number}"))
    figures = Path(config.figures_dir) / config.size
    figures.mkdir(parents=True)
    for number in plan.figures():
        (figures / f"figure_{number:02d}.png").write_bytes(png())
    (plan.root / "rulegraph.dot").write_text(DOT)
    (plan.root / "claims.json").write_text(json.dumps(judge_all(config)))
    return plan


@pytest.fixture
def demo(tmp_path):
    return write_results(make_config("config", tmp_path / "results", figures_dir=str(tmp_path / "figures")))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(demo):
    page = Balance(report.render(demo, demo.root))
    assert page.found["script"] == []
    assert len(page.found["id"]) == len(set(page.found["id"]))
    assert all(source.startswith("data:image/png;base64,") for source in page.found["src"])
    assert len(page.found["src"]) == len(demo.figures()) == 12
    inner = {link[1:] for link in page.found["href"] if link.startswith("#")}
    assert inner <= set(page.found["id"])
    assert not [link for link in page.found["href"] if "://" in link or link.startswith("/")]
    assert "{{" not in page.text


def test_the_page_shows_size_claims_tables_figures_and_configuration(demo):
    text = Balance(report.render(demo, demo.root)).text
    shown = ["size demo", demo.config.note[1:], "8 not tested at this size", "Table 1", "Figure 1.", "seeds: [0, 1]"]
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
    plan = write_results(config.model_copy(update={"experiments": config.experiments[:1]}))
    page = Balance(report.render(plan, plan.root))
    assert [name for name in page.found["id"] if name.startswith(("table-", "figure-"))] == ["table-1", "figure-12"]


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


@pytest.mark.parametrize("name", [path.stem for path in report.CAPTIONS.glob("*.rst")])
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


def test_a_note_is_text_in_the_page_and_in_the_claims(demo):
    config = demo.config.model_copy(update={"note": NOTE})
    judged = judge_all(config)
    lines = claims.to_markdown(judged).splitlines()
    assert f"{markdown.plain(NOTE)}." in lines[2]
    claim = judged["claims"][0] | {"text": "a|b", "expected": "|"}
    rows = [line for line in claims.to_markdown(judged | {"claims": [claim]}).splitlines() if line.startswith("| C")]
    assert r"| a\|b | \| |" in rows[0]


def test_there_is_a_caption_for_every_table_and_figure():
    wanted = {f"table_{i}" for i in range(1, 7)} | {f"figure_{i:02d}" for i in range(1, 13)} | {"claims"}
    assert {path.stem for path in report.CAPTIONS.glob("*.rst")} == wanted
    assert set(CELL_FIGURES) == set(range(6, 12))


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


def test_the_rules_of_tables_and_of_figures_are_one_node_each():
    graph = rulegraph.grouped(rulegraph.read(DOT))
    assert graph == {
        "tables": {"search", "data"},
        "figures": {"data"},
        "search": {"data"},
        "data": set(),
        "report": {"tables", "figures", "search"},
    }


def test_edges_that_follow_from_others_are_left_out():
    graph = rulegraph.reduced(rulegraph.grouped(rulegraph.read(DOT)))
    assert graph["tables"] == {"search"}
    assert graph["report"] == {"tables", "figures"}


def test_nodes_of_the_drawing_do_not_overlap_and_edges_lead_right():
    layout = rulegraph.arrange(rulegraph.reduced(rulegraph.grouped(rulegraph.read(DOT))))
    boxes = [(x, y - rulegraph.HEIGHT / 2, x + w, y + rulegraph.HEIGHT / 2) for x, y, w in layout.places.values() if w]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert min(left, top) >= 0
        assert right <= layout.width
        assert bottom <= layout.height
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for path in layout.paths:
        lefts = [layout.places[name][0] for name in path]
        assert lefts == sorted(set(lefts))


def test_the_drawing_is_svg_with_every_rule():
    drawing = rulegraph.to_svg(DOT, {"tables": "tables 1-2"})
    page = Balance(drawing)
    assert re.findall(r"<text[^>]*>([^<]+)", drawing)
    assert {"data", "search", "tables 1-2", "figures", "report"} <= set(re.findall(r">([^<>]+)</text>", drawing))
    assert page.open == []


@pytest.mark.parametrize(
    ("dot", "words"), [("digraph {}", "no rules"), ('0[label = "a"] 1[label = "b"] 0 -> 1 1 -> 0', "need each other")]
)
def test_what_is_no_graph_of_rules_is_refused(dot, words):
    with pytest.raises(ValueError, match=words):
        rulegraph.to_svg(dot)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (3599.9, "1 h 00 min"),
        (7620, "2 h 07 min"), (97200, "1 d 03 h"),
    ],
)  # fmt: skip
def test_times_are_said_for_people(seconds, text):
    assert run_facts.duration(seconds) == text


def write_metrics(path: Path, commit: str | None, device: str, seconds: float) -> None:
    cost = {"wall_seconds": seconds, "device": device, "cores": 2, "peak_memory_bytes": 2**30}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": {"commit": commit, "versions": {"torch": "2.15"}}, "cost": cost}))


def test_facts_of_all_runs_are_counted_and_differences_are_told(tmp_path):
    plan = Plan(make_config("test", tmp_path))
    files = list(run_facts.metrics_files(plan))
    for place, (_, path) in enumerate(files):
        write_metrics(path, "abc" if place else "abc+changes", "A" if place else "B", 60.0)
    files[-1][1].unlink()
    facts = run_facts.collect(plan)
    assert facts.provenance["processor or GPU"] == {"A": len(files) - 2, "B": 1}
    assert facts.provenance["torch"] == {"2.15": len(files) - 1}
    assert sum(row["jobs"] for row in facts.times) == len(files) - 1
    assert facts.times[0] == {
        "step": "data", "jobs": 2, "total": "2 min 00 s", "median": "1 min 00 s", "longest": "1 min 00 s", "memory": "1.00",
        "gpu_memory": "—",
    }  # fmt: skip
    told = " ".join(facts.warnings)
    for words in (
        "1 of",
        "Runs differ in commit: abc, abc+changes",
        "processor or GPU: A, B",
        "differed from its commit",
    ):
        assert words in told


def test_equal_runs_are_told_without_warnings(tmp_path):
    plan = Plan(make_config("test", tmp_path))
    for _, path in run_facts.metrics_files(plan):
        write_metrics(path, "abc", "A", 1.0)
    assert run_facts.collect(plan).warnings == []
