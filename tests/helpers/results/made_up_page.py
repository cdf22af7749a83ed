"""Tables, figures and a rule graph, as the workflow leaves them for the page."""

from __future__ import annotations

import json
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

from made_up_claims import fabricate

from midas.analysis.claims.judging import judge_all
from midas.config.keys import Config
from midas.plan.further import listed
from midas.plan.plan import Plan

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
    for number in (*plan.tables(), *listed.tables(plan)):
        path = plan.root / f"tables/table_{str(number).lower()}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TABLE_MD.replace("Table 1", f"Table {number}"))
    figures = Path(config.figures_dir) / config.size
    figures.mkdir(parents=True)
    for number in plan.figures():
        (figures / f"figure_{number:02d}.png").write_bytes(png())
    for name in listed.figures(plan):
        (figures / f"figure_{name.lower()}.png").write_bytes(png())
    (plan.root / "rulegraph.dot").write_text(DOT)
    (plan.root / "claims.json").write_text(json.dumps(judge_all(config)))
    return plan
