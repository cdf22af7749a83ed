"""Judge the paper's claims: ``python -m midas.analysis.claims RUN FOLDER`` writes claims.json and claims.md."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from midas.analysis.claims.judging import VERDICTS, judge_all
from midas.analysis.markdown import cell, plain
from midas.files.writing import write_text
from midas.plan.runs import PresentRun

MINUS = "\N{MINUS SIGN}"


def number_text(measured: dict[str, Any]) -> str:
    """A measured number with its interval, to equal decimals that give the largest of the three four digits."""
    mean, low, high = (measured[key] for key in ("mean", "low", "high"))
    if low is None:
        return f"{mean:.4g}".replace("-", MINUS)
    largest = max(abs(mean), abs(low), abs(high))
    decimals = min(max(3 - math.floor(math.log10(largest)), 0), 4) if largest > 0 else 0
    return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]".replace("-", MINUS)


def place_text(site: dict[str, str]) -> str:
    """Where something was measured."""
    return f"{site['space']} on {site['dataset']}, {site['method']}"


def short_paths(files: Iterable[str]) -> list[str]:
    """Paths with the seeds' folders as one."""
    return sorted({re.sub(r"/seed\d+/", "/seed*/", file) for file in files})


def to_markdown(judged: dict[str, Any]) -> str:
    """claims.md: the verdicts at a glance, then what stands behind each."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in judged["verdicts"].items())
    lines = [
        f"# The paper's claims at size {judged['size']}",
        "",
        f"{counts}. {plain(judged['note'][:1].upper() + judged['note'][1:])}.",
        "",
        "| | verdict | claim | expected | measured | where | n |",
        "|---|---|---|---|---|---|---:|",
    ]
    for claim in judged["claims"]:
        cells = [claim["id"], _verdict(claim), claim["text"], claim["expected"], *headline(claim)]
        lines.append(_row(*cells))
    lines += ["", "Brackets: the interval that the sections below name; n: seeds.", ""]
    return "\n".join([*lines, *(line for claim in judged["claims"] for line in _section(claim))]).rstrip() + "\n"


def headline(claim: dict[str, Any]) -> tuple[str, str, str]:
    """The numbers that are judged, where they were measured, and over how many seeds; dashes where there are none."""
    measured = claim["measured"]
    if not measured:
        return ("—",) * 3
    values = {axis: list(dict.fromkeys(number["site"][axis] for number in measured)) for axis in measured[0]["site"]}
    varied = [axis for axis, found in values.items() if len(found) > 1]
    texts, quantity = [], ""
    for number in measured:
        heading = "" if number["quantity"] == quantity else f"{number['quantity']}:"
        quantity = number["quantity"]
        texts.append(" ".join(filter(None, [heading, *(number["site"][axis] for axis in varied), number_text(number)])))
    where = place_text({axis: ", ".join(found) for axis, found in values.items()})
    return "; ".join(texts), where, str(min(number["n"] for number in measured))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell(text) for text in cells)} |"


def _verdict(claim: dict[str, Any]) -> str:
    return f"{VERDICTS[claim['verdict']]} {claim['verdict']}"


def _section(claim: dict[str, Any]) -> list[str]:
    lines = [f"## {claim['id']}: {_verdict(claim)}", "", claim["text"], "", f"- Why: {claim['reason']}."]
    lines += [f"- Expected: {claim['expected']} (source: {claim['source']})."]
    lines += [f"- Criterion: {claim['criterion']}", f"- This project's decisions: {claim['assumptions']}"]
    if not claim["measured"]:
        return [*lines, "- Measured: nothing.", ""]
    rows = [
        _row(m["quantity"], number_text(m), m["interval"] or "no interval", str(m["n"]), place_text(m["site"]))
        for m in claim["measured"] + claim["further"]
    ]
    files = ", ".join(f"`{path}`" for path in short_paths(claim["files"]))
    table = ["| measured | value | interval | n | where |", "|---|---|---|---:|---|", *rows]
    return [*lines, f"- Files: {files}.", "", *table, ""]


def write_claims(run: PresentRun, folder: Path) -> None:
    """Write claims.json and claims.md.

    Raises:
        ValueError: the file of the claims is wrong, or files of an experiment are missing or damaged: a line for each.
    """
    judged = judge_all(run.config)
    write_text(folder / "claims.json", json.dumps(judged, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "claims.md", to_markdown(judged))
