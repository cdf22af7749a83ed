"""HTML from the markdown that this project's tables are written in: pipe tables, lists, paragraphs, bold, italics, code."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from itertools import groupby

INLINE = (
    (r"`([^`]+)`", r"<code>\1</code>"),
    (r"\*\*(.+?)\*\*", r"<strong>\1</strong>"),
    (r"(?<![\\\w*])\*(?![\s*])([^*]+?)(?<![\s\\])\*(?![\w*])", r"<em>\1</em>"),
    (r"\\([\\`*|_])", r"\1"),
)
MARKUP = re.compile(r"[\\`*|$~<>\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")
"""What may begin or end markup or a formula; an underscore within a word does not."""
NUMBER = re.compile(r"^(<em>)?[+\N{MINUS SIGN}\N{EM DASH}\d]")
"""A cell that begins like this is a number, or one that is missing."""

BROAD = 7
"""A table of so many columns is set smaller and may be broader than text."""


def to_html(text: str) -> str:
    """The text as HTML; what is no markup is escaped."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n".join(part for block in blocks for part in _block(block.splitlines()))


def inline(text: str) -> str:
    """Markup inside a line as HTML."""
    text = html.escape(text, quote=False)
    for pattern, replacement in INLINE:
        text = re.sub(pattern, replacement, text)
    return text


def plain(text: str) -> str:
    """Text of a user, so that it is shown as it is."""
    return MARKUP.sub(r"\\\g<0>", text)


def cell(text: str) -> str:
    """Text in a cell of a pipe table."""
    return text.replace("|", r"\|")


def _block(lines: list[str]) -> Iterator[str]:
    """Runs of lines of one kind."""
    for kind, run in groupby(lines, lambda line: line[:2] if line[:2] == "- " else line[:1] if line[:1] == "|" else ""):
        if kind == "|":
            yield _table(list(run))
        elif kind:
            yield f"<ul>{''.join(f'<li>{inline(line[2:])}</li>' for line in run)}</ul>"
        else:
            yield f"<p>{inline(' '.join(run))}</p>"


def _table(lines: list[str]) -> str:
    """A pipe table; columns whose cells are numbers are set to the right."""
    rows = [[inline(cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]
    head, body = rows[0], rows[2:]
    numeric = [
        bool(body) and all(NUMBER.match(cell) or not cell for cell in column) for column in zip(*body, strict=True)
    ]
    classes = [' class="number"' if right else "" for right in numeric or [False] * len(head)]
    broad = " broad" if len(head) >= BROAD else ""
    return (
        f'<div class="table{broad}"><table><thead>{_row("th", head, classes)}</thead>'
        f"<tbody>{''.join(_row('td', row, classes) for row in body)}</tbody></table></div>"
    )


def _row(tag: str, cells: Iterable[str], classes: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}{style}>{cell}</{tag}>' for cell, style in zip(cells, classes, strict=True))}</tr>"
