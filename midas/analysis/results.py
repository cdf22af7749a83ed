"""What do the small files of a run say? Reading metrics.json and CSV tables, with a word on what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

NAMES = frozenset({"class_a", "class_b", "method", "other", "space", "dataset", "kind", "operation", "genotype"})
"""Columns of names. They are text: a class may be called NA, nan, 00001 or 1e5, and so may a method but for capitals."""


def load_metrics(path: Path) -> dict[str, Any]:
    """Read a `metrics.json`.

    Raises:
        ValueError: the file is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable metrics file: {reason(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a readable metrics file: no JSON object")
    return content


def load_number(path: Path, *keys: str) -> float:
    """Read one number of a `metrics.json`.

    Args:
        path: the file.
        keys: the way to the number, from the outermost key.

    Raises:
        ValueError: the file is missing or damaged, lacks the number, or holds something else there.
    """
    value: Any = load_metrics(path)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"{path}: key {'.'.join(keys)} is missing")
        value = value[key]
    if not isinstance(value, int | float):
        raise ValueError(f"{path}: {'.'.join(keys)} is {value!r}, not a number")
    return float(value)


def load_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a csv file that must have these columns; those of `NAMES` are text.

    Raises:
        ValueError: the file is missing, no csv file or lacks a column.
    """
    try:
        table = pd.read_csv(path)
        # a second reading, since pandas looks for missing values in what a converter makes of a name too
        names = pd.read_csv(path, usecols=lambda column: column in NAMES, dtype=str, keep_default_na=False)
        table[names.columns] = names
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table: {reason(error)}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(table.columns)}")
    return table


def reason(error: Exception) -> str:
    """What is wrong with a file, in words."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
