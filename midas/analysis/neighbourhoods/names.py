"""How table S2 and figure S2 call what they show, and how they read it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from midas.analysis.results import load_table
from midas.plan.further.neighbourhoods import folder
from midas.plan.plan import Plan

NUMBER = "S2"
DATA = {"c10": "CIFAR-10", "c100": "CIFAR-100", "in16": "ImageNet16-120"}
GROUPS = {
    "best": "the best cell",
    "found": "found by the searches",
    "matched_every": "same accuracy, not found",
    "matched_without_none": "the same without \u201cnone\u201d",
    "random": "random",
}
"""Groups of cells in curves.csv and paths.csv."""
REFERENCES = {"every": "every cell", "without_none": "cells without \u201cnone\u201d"}
"""Cells among which those of the same accuracy were looked for, in tests.csv."""


def accuracy_name(column: str) -> str:
    """A column of the benchmark's table for people, e.g. "CIFAR-10 test"."""
    data, half, *_ = column.split("_")
    return f"{DATA[data]} {half}"


def read(plan: Plan, name: str, columns: tuple[str, ...]) -> tuple[pd.DataFrame, Path]:
    """A file of the step, and where it lies.

    Raises:
        ValueError: the configuration doesn't ask for it, or the file is missing, damaged or lacks a column.
    """
    if plan.config.neighbourhoods is None:
        raise ValueError(f"neighbourhoods: missing; table and figure {NUMBER} show them")
    path = folder(plan) / f"{name}.csv"
    return load_table(path, ("accuracy", "method", *columns)), path
