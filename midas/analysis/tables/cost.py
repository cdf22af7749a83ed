"""Table 6: what a search costs, method against baseline, at several image sizes and patch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis.results import load_metrics
from midas.analysis.tables import runs, wording
from midas.analysis.tables.presentation import Block, Column, Table
from midas.config.keys import Experiment
from midas.config.settings import Cost
from midas.plan.plan import Plan

PARTS = {"methods": "methods", "resolution": "image sizes", "patch_size": "patch sizes"}
KEYS = {"image": "Image", "method": "Method", "patch_size": "PS"}
INTERVALS = {
    "step_seconds": "median and quartiles over repeats",
    "ratio": "median of paired ratios, 95 % interval of it",
}
PASSES = "Passes: forward and backward, of one batch, in a bilevel step; counted."
COUNTED = ("passes", "forward_passes")
"""Passes of a step; measurements from before these were counted don't have them."""
NUMBERS = (
    *COUNTED, "weights_params", "architecture_params", "multiply_adds", "step_seconds", "ratio", "epoch_seconds",
    "peak_memory_bytes", "memory_ratio",
)  # fmt: skip
NOTES = (
    "Step: one bilevel step (architecture, then weights) on random images; median [quartiles] over the repeats. Ratio: to "
    "the baseline at the same image size in the same repeat; median [95 % interval of the median, by order statistics]. "
    "Epoch: the steps of one.",
    "PS: side of a patch in pixels, none for global average pooling, n/a: static weights have no patches.",
    "Memory: peak of what is allocated on a GPU, or on a CPU held by a process beyond what the smallest search needs.",
)
NOT_MEASURED = "not enough memory for this method or for its baseline"
NO_INTERVAL = "too few repeats for an interval"


def cost(plan: Plan) -> Table:
    """Table 6: a block for each part of each measurement.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    blocks, notes, conventions = [], [], []
    for experiment in plan.costs():
        assert experiment.cost is not None  # that is what makes it one of them
        path = plan.root / experiment.space / experiment.dataset / "cost/metrics.json"
        content = load_metrics(path)
        numbers = pd.DataFrame(list(_numbers(plan, path, content, experiment)))
        notes.append(_how(content, experiment, experiment.cost))
        conventions.append(str(content.get("convention", "")))
        for part, name in PARTS.items():
            chosen = numbers[numbers["part"] == part]
            if len(chosen):
                heading = f"{experiment.space} on {experiment.dataset}: {name}, against {experiment.cost.baseline}"
                blocks.append(Block(heading, KEYS, _columns(chosen), chosen))
    protocol = "" if plan.config.paper_protocol else " Not the paper's protocol."
    what = (
        f"Cost of a search, measured side by side in one job. Size {plan.config.size} ({plan.config.note}).{protocol}"
    )
    counted = [PASSES] if any(block.numbers["quantity"].eq(COUNTED[0]).any() for block in blocks) else []
    return Table(6, what, blocks, [*notes, *counted, *NOTES, *dict.fromkeys(filter(None, conventions))])


def _numbers(plan: Plan, path: Path, content: dict[str, Any], experiment: Experiment) -> Iterator[dict[str, Any]]:
    device = str(content.get("cost", {}).get("device", "an unknown device"))
    facts = {
        **runs.BLANK,
        "space": experiment.space,
        "dataset": experiment.dataset,
        "device": device,
        "source": path.as_posix(),
    }
    try:
        for row in content["rows"]:
            image = f"{row['image_height']}x{row['image_width']}"
            attends = plan.config.methods[row["method"]].weights == "attention"
            patch = str(row["patch_size"] or "none") if attends else "n/a"
            names = {"part": row["part"], "image": image, "method": row["method"], "patch_size": patch}
            for quantity in NUMBERS if COUNTED[0] in row else NUMBERS[len(COUNTED) :]:
                found = _number(row, quantity)
                yield {**facts, **names, "quantity": quantity, **found, "n": content["repeats"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the measurement of a search's cost: {error} is missing") from error


def _number(row: dict[str, Any], quantity: str) -> dict[str, Any]:
    """One number of a row, with its ends if it has any, or the reason why it has none."""
    ends = ("low", "high") if quantity in INTERVALS else ()
    keys = {"mean": quantity, **{end: f"{quantity}_{end}" for end in ends}}
    values = {name: np.nan if row[key] is None else float(row[key]) for name, key in keys.items()}
    reason = NO_INTERVAL if ends and np.isnan(values["low"]) else ""
    return {
        **values,
        "interval": INTERVALS.get(quantity, ""),
        "missing": (row.get("missing") or NOT_MEASURED) if np.isnan(values["mean"]) else reason,
    }


def _columns(numbers: pd.DataFrame) -> list[Column]:
    """The columns; times in milliseconds where steps are that short."""
    short = numbers.loc[numbers["quantity"] == "step_seconds", "mean"].min() < 1
    step = (
        Column("Step (ms)", "step_seconds", "interval", 1, 1000)
        if short
        else Column("Step (s)", "step_seconds", "interval")
    )
    counted = set(numbers.loc[(numbers["quantity"].isin(COUNTED)) & (numbers["mean"] > 0), "quantity"])
    headings = {"passes": "Passes", "forward_passes": "forward alone"}
    return [
        *(Column(heading, name, digits=0) for name, heading in headings.items() if name in counted),
        Column("Weights (M)", "weights_params", digits=3, factor=1e-6),
        Column("Arch. params", "architecture_params", digits=0),
        Column("Multiply-adds (M)", "multiply_adds", digits=1, factor=1e-6),
        step,
        Column("Ratio", "ratio", "interval"),
        Column("Epoch (s)", "epoch_seconds", digits=1),
        Column("Memory (MB)", "peak_memory_bytes", digits=0, factor=1e-6),
        Column("Memory ratio", "memory_ratio"),
    ]


def _how(content: dict[str, Any], experiment: Experiment, settings: Cost) -> str:
    """What was measured on what, how often."""
    device = content.get("cost", {}).get("device", "an unknown device")
    search = experiment.search
    supernet = f"{wording.counted(search.cells, 'cell')}, {search.channels} channels, batches of {search.batch_size}"
    times = f"{settings.repeats} turns of {wording.counted(settings.steps, 'step')} each"
    return f"{experiment.space} on {experiment.dataset}: on {device}; {supernet}; {times}."
