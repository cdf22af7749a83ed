"""A sample of NAS-Bench-201's cells, and further accuracies of its cells in a csv file that the user names: robust ones, say."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from midas.files.texts import read_text
from midas.spaces.benchmark import Rows, numbers

CLEAN = {
    "c10_test_acc_200": "CIFAR-10 test",
    "c100_test_acc_200": "CIFAR-100 test",
    "in16_test_acc_200": "ImageNet16-120 test",
}
"""Columns of the benchmark's table that scores are set against, and their names for readers."""


def drawn(count: int, seed: int) -> list[str]:
    """Cells as text, each once, drawn at random by the seed alone: a smaller sample is the beginning of a larger one."""
    cells = list(numbers())
    random.Random(f"sample {seed}").shuffle(cells)
    return cells[:count]


def read_accuracies(path: Path, columns: Sequence[str]) -> Rows:
    """Some columns of a table, checked; a file that has not changed is read once.

    Args:
        path: of the file, plain or compressed. It has a column arch, the cell as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.
        columns: accuracies in percent; others are ignored.

    Raises:
        ValueError: the file can't be read, lacks a column or has it twice, or a line holds what isn't allowed.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: not a readable table: {error.strerror}") from error
    return _read(path, tuple(columns), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, columns: tuple[str, ...], *_: int) -> Rows:
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        header, lines = next(reader, []), [(reader.line_num, values) for values in reader if values]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable table: {error}") from error
    for name in ("arch", *columns):
        if header.count(name) != 1:
            wrong = "is missing" if name not in header else "is there twice; each once"
            raise ValueError(f"{path}: column {name} {wrong}; the table has {', '.join(header) or 'no columns'}")
    rows: Rows = {}
    for line, values in lines:
        try:
            if len(values) != len(header):
                raise ValueError(f"{len(values)} values are not allowed; {len(header)}, one for each column")
            texts = dict(zip(header, values, strict=True))
            cell = texts["arch"].strip()
            if cell not in numbers():
                raise ValueError(f"arch: {cell!r} is no cell of NAS-Bench-201; one is {next(iter(numbers()))}")
            if cell in rows:
                raise ValueError(f"arch: {cell} is there a second time; each cell once")
            rows[cell] = {name: _percent(name, texts[name]) for name in columns}
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    if not rows:
        raise ValueError(f"{path}: holds no cells")
    return rows


def _percent(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is not allowed; a number") from error
    if not 0 <= value <= 100:  # false for nan too
        raise ValueError(f"{name}: {text} is not allowed; percent, 0 to 100")
    return value
