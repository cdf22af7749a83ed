"""The search over functions: what of it is published. What is wrong with its keys, they say themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midas.plan.plan import Plan

KEY, TABLE, FIGURE, ALONE = "functions", "S4", None, True


def problems(plan: Plan) -> Iterator[str]:
    """Nothing: it needs neither images nor found cells."""
    yield from ()


def files(plan: Plan) -> list[Path]:
    """What its table is drawn from."""
    return (
        [plan.root / "functions" / name for name in ("recovery.csv", "metrics.json")] if plan.config.functions else []
    )
