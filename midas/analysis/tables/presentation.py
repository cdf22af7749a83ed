"""From tidy numbers to a table that people read: markdown and LaTeX, with every mark and every missing number explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from midas.analysis.markdown import cell, plain
from midas.files.writing import write_text

DASH = "—"
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ"
"""Marks of the reasons why a number is missing."""
MARKS = {
    "†": "not confirmed in a source; set in italics",
    "‡": "quoted by another paper, read incompletely, or found under another protocol; the csv file says which",
    "§": "mean and spread over independent searches; unmarked published spreads are mostly over retrainings of a cell",
    "¶": "layers \N{MULTIPLICATION SIGN} channels as the papers' convention has them, not read in a source",
}

TIDY = (
    "part", "group", "space", "dataset", "setting", "searched_on", "imagenet_mode", "method", "other", "weights", "patch_size",
    "distribution", "keys", "mixing", "projections", "detach", "warmup_epochs", "scale", "offer_none", "none_logit",
    "decode_batch", "decode_none", "image", "statistic", "network", "measure", "quantity", "mean", "std", "low", "high",
    "interval", "best", "n", "n_other", "p_value", "p_holm", "verdict", "missing", "status", "protocol", "spread",
    "network_status", "network_source", "device", "source", "note",
)  # fmt: skip
"""Columns of the csv files, in this order; a file leaves out those that it has no use for, but none of `ALWAYS`."""

ALWAYS = {"method", "quantity", "mean", "std", "low", "high", "interval", "best", "n", "missing", "status", "source"}

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", DASH: "---", "†": r"$^\dagger$",
    "‡": r"$^\ddagger$", "§": r"$^\S$", "¶": r"$^\P$", "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{MINUS SIGN}": "$-$",
    **{mark: f"$^{{{letter}}}$" for mark, letter in zip(LETTERS, "abcdefghijklmnop", strict=True)},
}  # fmt: skip

WIDE = 9
"""A LaTeX table of more columns is set smaller."""


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: its heading.
        quantity: the quantity in the tidy numbers.
        value: "mean", with its spread; "best"; "either" of the two, the mean if there is one; "interval", the mean (or median)
            with low and high; else a tidy column that holds text.
        digits: decimals, None for as many as the number needs, at least one below 100.
        factor: the unit of the heading in units of the tidy number is 1 / factor.
        signed: whether a plus sign is printed.
    """

    title: str
    quantity: str
    value: str = "mean"
    digits: int | None = 2
    factor: float = 1.0
    signed: bool = False


@dataclass(frozen=True)
class Block:
    """Rows under one heading line.

    Attributes:
        heading: what is said above them, may be empty.
        keys: tidy column -> heading, for the columns that name a row.
        columns: the columns of numbers.
        numbers: tidy numbers, a row for each quantity: keys, quantity, mean, std, best, n, status and others of `TIDY`;
            `missing` says why the number, or its spread, is not there.
        dash: what a dash without a mark means, for numbers that have no tidy row.
    """

    heading: str
    keys: dict[str, str]
    columns: list[Column]
    numbers: pd.DataFrame
    dash: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        number: as in the paper, or S1 and on for tables of this project's own.
        caption: sentences above it: what, size, seeds, what the spread is over, protocol.
        blocks: its parts.
        notes: sentences below it; marks and dashes that occur are explained by themselves.
    """

    number: int | str
    caption: str
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Form:
    """How a text form writes a cell: `escape` its text, then put it into `italics` if it isn't confirmed."""

    escape: Callable[[str], str]
    italics: str


def _times(text: str) -> str:
    """20x36 as it is printed."""
    return re.sub(r"(?<=\d)x(?=\d)", "\N{MULTIPLICATION SIGN}", text)


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in _times(text))


MARKDOWN_FORM = _Form(cell, "*{}*")
LATEX_FORM = _Form(_latex, r"\textit{{{}}}")


def write(table: Table, folder: Path) -> None:
    """Write table_N.csv (tidy, full precision), table_N.md and table_N.tex."""
    numbers = pd.concat([block.numbers for block in table.blocks])
    used = {name for name in TIDY if name in numbers and numbers[name].replace("", None).notna().any()}
    numbers = numbers.reindex(columns=[name for name in TIDY if name in used | ALWAYS])
    write_text(folder / f"table_{str(table.number).lower()}.csv", numbers.to_csv(index=False, lineterminator="\n"))
    write_text(folder / f"table_{str(table.number).lower()}.md", to_markdown(table))
    write_text(folder / f"table_{str(table.number).lower()}.tex", to_latex(table))


def to_markdown(table: Table) -> str:
    """The table for a README or a report."""
    letters = _letters(table)
    lines = [f"**Table {table.number}.** {plain(table.caption)}", ""]  # the user's note is in it
    for block in table.blocks:
        lines += [f"**{block.heading}**", ""] if block.heading else []
        lines += [_frame(block, letters, MARKDOWN_FORM).to_markdown(index=False, disable_numparse=True), ""]
    lines += [f"- {note}" for note in _notes(table, letters)]
    return _times("\n".join(lines)).rstrip() + "\n"


def to_latex(table: Table) -> str:
    """The table for a paper; it needs the packages booktabs, longtable and caption, and may run over pages."""
    letters = _letters(table)
    own, place = str(table.number).startswith("S"), int(str(table.number).removeprefix("S"))
    lines = [rf"\begingroup\footnotesize\setcounter{{table}}{{{place - 1}}}"]
    lines += [r"\renewcommand{\thetable}{S\arabic{table}}"] if own else []
    lines += [rf"\captionof{{table}}{{{_latex(table.caption)}}}"]
    for block in table.blocks:
        frame = _frame(block, letters, LATEX_FORM).rename(columns=_latex)
        layout = "l" * len(block.keys) + "r" * len(block.columns)
        lines += [rf"\par\medskip\noindent\textbf{{{_latex(block.heading)}}}\par"] if block.heading else []
        lines += [r"\begingroup" + (r"\scriptsize\setlength{\tabcolsep}{2pt}" if len(layout) > WIDE else "")]
        lines += [frame.to_latex(index=False, escape=False, column_format=layout, longtable=True).strip(), r"\endgroup"]
    lines += [rf"\par\smallskip\noindent {_latex(note)}" for note in _notes(table, letters)]
    return "\n".join([*lines, r"\par\endgroup"]) + "\n"


def _letters(table: Table) -> dict[str, str]:
    """Reason why a number is missing -> its mark, in the order in which readers meet them."""
    reasons = dict.fromkeys(reason for block in table.blocks for reason in _reasons(block))
    return dict(zip(reasons, LETTERS, strict=False))


def _reasons(block: Block) -> Iterator[str]:
    for _, by_quantity in _rows(block):
        for column in block.columns:
            row = by_quantity.get(column.quantity)
            if row is not None and column.value != "best" and _text(row.get("missing")):
                yield row["missing"]


def _notes(table: Table, letters: dict[str, str]) -> list[str]:
    frames = [_frame(block, letters, _Form(str, "{}")) for block in table.blocks]
    cells = [cell for frame in frames for cell in frame.to_numpy().ravel()]
    notes = table.notes + [f"{mark} {reason}." for reason, mark in letters.items()]
    dashes = {block.dash for block, frame in zip(table.blocks, frames, strict=True) if (frame == DASH).any(axis=None)}
    assert "" not in dashes, "a number is missing without a reason"
    notes += sorted(f"{DASH} {dash}." for dash in dashes)
    return notes + [f"{mark} {meaning}." for mark, meaning in MARKS.items() if any(mark in cell for cell in cells)]


def _rows(block: Block) -> Iterator[tuple[pd.Series, dict[str, pd.Series]]]:
    """The first of each group of equal keys, and the group by quantity; in the order in which they come."""
    for _, group in block.numbers.groupby(list(block.keys), sort=False, dropna=False):
        yield group.iloc[0], {row["quantity"]: row for _, row in group.iterrows()}


def _frame(block: Block, letters: dict[str, str], form: _Form) -> pd.DataFrame:
    """The block as text."""
    rows = []
    for first, by_quantity in _rows(block):
        texts = [_key_text(first[key], key, first) for key in block.keys]
        texts += [_number_text(by_quantity.get(column.quantity), column, letters) for column in block.columns]
        confirmed = first["status"] != "from_memory"
        cells = [form.escape(text) for text in texts]
        rows.append(
            [cell if confirmed or cell in ("", form.escape(DASH)) else form.italics.format(cell) for cell in cells]
        )
    return pd.DataFrame(rows, columns=[*block.keys.values(), *(column.title for column in block.columns)])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _key_text(value: object, key: str, row: pd.Series) -> str:
    if pd.isna(value) or value == "":  # type: ignore[call-overload]
        return DASH
    if key == "n":
        return f"{value:.0f}"
    marks = ""
    if key == "method":
        marks = ("†" if row["status"] == "from_memory" else "") + ("§" if row.get("spread") == "searches" else "")
    if key == "network" and row.get("network_status") == "from_memory":
        marks = "¶"
    return f"{value}{marks}"


def _number_text(row: pd.Series | None, column: Column, letters: dict[str, str]) -> str:
    if row is None:
        return DASH
    missing = DASH + letters.get(_text(row.get("missing")), "")
    if column.value not in ("mean", "best", "either", "interval"):
        return _text(row.get(column.value)) or missing
    kind = "best" if column.value == "best" or (column.value == "either" and pd.isna(row["mean"])) else "mean"
    if pd.isna(row[kind]):
        return missing
    text = _decimal(row[kind], column)
    if column.value == "interval" and pd.notna(row.get("low")):
        text += f" [{_decimal(row['low'], column)}, {_decimal(row['high'], column)}]"
    elif column.value in ("mean", "either") and kind == "mean" and pd.notna(row["std"]):
        text += f" ± {_decimal(row['std'], column)}"
    elif kind == "mean":
        text += missing.removeprefix(DASH)
    return text + ("‡" if _text(row.get("protocol")) else "")


def _decimal(value: float, column: Column) -> str:
    scaled = value * column.factor
    digits = column.digits
    if digits is None and abs(scaled) < 100 and scaled == round(scaled):
        digits = 1
    sign = "+" if column.signed else ""
    return format(scaled, f"{sign}g" if digits is None else f"{sign}.{digits}f").replace("-", "\N{MINUS SIGN}")
