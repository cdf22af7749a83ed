"""Runs that were interrupted, and would go on with another rounding: said before any job starts. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from midas.plan.cells import Cell
from midas.plan.plan import Plan
from midas.plan.runs import decisive
from midas.running.limits import ACCEPTED, GO_ON, IDENTITY, MACHINE
from midas.running.provenance import digest

STEPS = ("search", "retrain", "transfer")


def elsewhere(plan: Plan) -> Iterator[str]:
    """A line for each key, `threads` or `device`, that isn't what an interrupted run of this plan was begun with."""
    if plan.config.go_on_elsewhere:
        return
    for key in ("threads", "device"):
        now = getattr(plan.config, key)
        other = [
            (kept, there[key]) for kept, there in _interrupted(plan) if key in there and now not in ("auto", there[key])
        ]
        if other:
            kept, then = other[0]
            more = f", as were {len(other) - 1} more" if len(other) > 1 else ""
            yield f"{key}: {now!r} is not allowed; {kept} was begun with {then!r}{more}; {GO_ON}"


def _interrupted(plan: Plan) -> Iterator[tuple[Path, dict[str, object]]]:
    """Folders of checkpoints that the plan would go on from, and the machine that they were begun on."""
    for cell in plan.cells():
        for step in STEPS:
            kept = plan.cell_folder(cell) / f"{step}_checkpoint"
            finished = (kept / ACCEPTED).exists() or (plan.cell_folder(cell) / step / "metrics.json").exists()
            if (kept / "newest.pt").exists() and not finished:
                try:
                    there = json.loads((kept / IDENTITY).read_text())
                    if there["config"] == _now(plan, cell, step) and there["source_digest"] == digest(step):
                        yield kept, there[MACHINE]
                except (OSError, ValueError, TypeError, KeyError):  # the step itself looks at its checkpoint
                    continue


def _now(plan: Plan, cell: Cell, step: str) -> dict[str, object] | None:
    experiment = cell.experiment
    if getattr(experiment, step) is None:
        return None
    return decisive(plan.resolved(step, experiment.space, experiment.dataset, cell.method, cell.seed))
