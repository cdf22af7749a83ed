"""From tidy numbers to a table that people read: markdown and LaTeX, with every mark explained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from midas.provenance import write_text

DASH = "—"
MARKS = {
    "†": "not confirmed in a source; set in italics",
    "‡": "quoted by another paper, or found under another protocol; the csv file says which",
    "§": "mean and spread over independent searches; unmarked published spreads are mostly over retrainings of a cell",
}

TIDY = (
    "group", "dataset", "searched_on", "method", "quantity", "mean", "std", "best", "n", "status", "protocol", "spread",
    "device", "source", "note",
)  # fmt: skip
"""Columns of the csv files, in this order."""

LATEX = {
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", DASH: "---", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "§": r"$^\S$", "\N{MULTIPLICATION SIGN}": r"$\times$",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: its heading.
        quantity: the quantity in the tidy numbers.
        value: "mean", with its spread, or "best".
        digits: decimals, None for as many as the number was printed with.
        factor: the unit of the heading in units of the tidy number is 1 / factor.
    """

    title: str
    quantity: str
    value: Literal["mean", "best"] = "mean"
    digits: int | None = 2
    factor: float = 1.0


@dataclass(frozen=True)
class Block:
    """Rows under one heading line.

    Attributes:
        heading: what is said above them, may be empty.
        keys: tidy column -> heading, for the columns that name a row.
        columns: the columns of numbers.
        numbers: tidy numbers, a row for each quantity: keys, quantity, mean, std, best, n, status, protocol, spread.
    """

    heading: str
    keys: dict[str, str]
    columns: list[Column]
    numbers: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        number: as in the paper.
        caption: sentences above it: what, size, seeds, what the spread is over, protocol.
        blocks: its parts.
        notes: sentences below it; the marks that occur are explained by themselves.
    """

    number: int
    caption: str
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)


def write(table: Table, folder: Path) -> None:
    """Write table_N.csv (tidy, full precision), table_N.md and table_N.tex."""
    numbers = pd.concat([block.numbers for block in table.blocks])
    columns = [column for column in TIDY if column in numbers]
    write_text(folder / f"table_{table.number}.csv", numbers[columns].to_csv(index=False, lineterminator="\n"))
    write_text(folder / f"table_{table.number}.md", to_markdown(table))
    write_text(folder / f"table_{table.number}.tex", to_latex(table))


def to_markdown(table: Table) -> str:
    """The table for a README or a report."""
    lines = [f"**Table {table.number}.** {table.caption}", ""]
    for block in table.blocks:
        frame = _frame(block, "*{}*")
        lines += [f"**{block.heading}**", ""] if block.heading else []
        lines += [frame.to_markdown(index=False, disable_numparse=True), ""]
    lines += [f"- {note}" for note in _notes(table)]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(table: Table) -> str:
    """The table for a paper; it needs the package booktabs."""
    lines = [r"\begin{table}", r"\centering\footnotesize", rf"\caption{{{_latex(table.caption)}}}"]
    for block in table.blocks:
        frame = _frame(block, r"\textit{{{}}}").map(_latex).rename(columns=_latex)
        layout = "l" * len(block.keys) + "r" * len(block.columns)
        lines += [rf"\par\medskip\textbf{{{_latex(block.heading)}}}\par\smallskip"] if block.heading else []
        lines += [frame.to_latex(index=False, escape=False, column_format=layout).strip()]
    lines += [rf"\par\smallskip {_latex(note)}" for note in _notes(table)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex(text: str) -> str:
    for sign, command in LATEX.items():
        text = text.replace(sign, command)
    return text


def _notes(table: Table) -> list[str]:
    text = "".join(_frame(block, "{}").to_string() for block in table.blocks)
    return table.notes + [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]


def _frame(block: Block, italics: str) -> pd.DataFrame:
    """The block as text: a row for each group of equal keys, in the order in which they come."""
    rows = []
    for _, group in block.numbers.groupby(list(block.keys), sort=False, dropna=False):
        first, by_quantity = group.iloc[0], {row["quantity"]: row for _, row in group.iterrows()}
        texts = [_key_text(first[key], key, first) for key in block.keys]
        texts += [_number_text(by_quantity.get(column.quantity), column) for column in block.columns]
        confirmed = first["status"] != "from_memory"
        rows.append([text if confirmed or text == DASH else italics.format(text) for text in texts])
    return pd.DataFrame(rows, columns=[*block.keys.values(), *(column.title for column in block.columns)])


def _key_text(value: object, key: str, row: pd.Series) -> str:
    if pd.isna(value) or value == "":  # type: ignore[call-overload]
        return DASH
    if key == "n":
        return f"{value:.0f}"
    marks = ("†" if row["status"] == "from_memory" else "") + ("§" if row["spread"] == "searches" else "")
    return f"{value}{marks if key == 'method' else ''}"


def _number_text(row: pd.Series | None, column: Column) -> str:
    if row is None or pd.isna(row[column.value]):
        return DASH
    form = "g" if column.digits is None else f".{column.digits}f"
    text = f"{row[column.value] * column.factor:{form}}"
    if column.value == "mean" and pd.notna(row["std"]):
        text += f" ± {row['std'] * column.factor:{form}}"
    elif column.value == "mean" and row["n"] == 1:
        text += f" ± {DASH}"
    return text + ("‡" if row["protocol"] else "")
