"""The neighbourhoods of found cells: whether they can be looked at, and where their files lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from midas.images.contents import of_file
from midas.plan.plan import Plan
from midas.spaces.benchmark import CELLS

KEY, TABLE, FIGURE, ALONE = "neighbourhoods", "S2", "S2", False
SPACE = "nas_bench_201"
FILES = ("metrics.json", "cells.csv", "curves.csv", "paths.csv", "tests.csv")


def problems(plan: Plan) -> Iterator[str]:
    """What is wrong with the key `neighbourhoods`, together with others."""
    config, settings = plan.config, plan.config.neighbourhoods
    if settings is None:
        return
    if len(set(settings.accuracies)) < len(settings.accuracies):
        yield f"neighbourhoods.accuracies: {settings.accuracies} is not allowed; each once"
    if not any(True for _ in plan.cells(SPACE, searched=True)):
        yield f"neighbourhoods: not allowed; no method searches {SPACE}, whose cells these are"
    table = config.nas_bench_201_table
    if table is None:
        yield "neighbourhoods: nas_bench_201_table is missing; the accuracies are those of the benchmark's table"
        return
    if config.nas_bench_201_cells != CELLS:
        yield f"neighbourhoods: not allowed with nas_bench_201_cells {config.nas_bench_201_cells}; a table of all {CELLS:,} cells"
    if os.path.exists(table):
        return
    if not all(path.exists() for path in files(plan)):
        yield f"neighbourhoods: nas_bench_201_table {table} is not there, and {folder(plan)} is not finished"
    elif (asked := settings.model_dump(mode="json")) != (made := _finished(plan, "config", "config", "neighbourhoods")):
        yield f"neighbourhoods: nas_bench_201_table {table} is not there, and {folder(plan)} was made with {made}, not {asked}"


def folder(plan: Plan) -> Path:
    """Where its numbers lie."""
    return plan.root / "neighbourhoods"


def files(plan: Plan) -> list[Path]:
    """What its table and figure are drawn from."""
    return [folder(plan) / name for name in FILES] if plan.config.neighbourhoods else []


def decided_by(plan: Plan) -> str:
    """What decides its numbers beside the cells: settings, and the digest of the table, or of that which they were made of.

    So what is finished stays where the table isn't.
    """
    settings = plan.config.neighbourhoods
    assert settings is not None
    try:
        contents = of_file(plan.config.nas_bench_201_table)
    except ValueError:
        contents = _finished(plan, "benchmark_contents") or ""
    return json.dumps([settings.model_dump(mode="json"), contents])


def _finished(plan: Plan, *keys: str) -> Any:
    """A value of what is finished, None where there is none."""
    try:
        found = json.loads((folder(plan) / FILES[0]).read_text())
        for key in keys:
            found = found[key]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found
