"""Table 3: the cells that were found on small images, trained on large ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from midas.analysis import literature
from midas.analysis.statistics.seeds import PERCENT, POSITIVE
from midas.analysis.tables import runs, wording
from midas.analysis.tables.presentation import Block, Column, Table
from midas.analysis.tables.runs import Quantity
from midas.config.keys import Experiment
from midas.config.settings import Transfer
from midas.plan.plan import Plan

FILE = "transfer/metrics.json"
TOP1 = Quantity("top1_error", FILE, runs.number("test_top1", convert=runs.error_of), best=min, within=PERCENT)
TOP5 = Quantity("top5_error", FILE, runs.number("test_top5", convert=runs.error_of), best=min, within=PERCENT)
PARAMS = Quantity("params_m", FILE, runs.number("params", convert=lambda count: count / 1e6), within=POSITIVE)
MULTIPLY_ADDS = Quantity(
    "multiply_adds_m", FILE, runs.number("multiply_adds", convert=lambda count: count / 1e6), within=POSITIVE
)
TIME = Quantity("transfer_seconds", FILE, runs.number("cost", "wall_seconds"), within=POSITIVE)
MOBILE = Quantity("mobile_setting", FILE, runs.number("mobile_setting"))

PUBLISHED = [
    Column("Top-1 error (%)", "imagenet_top1_error", "either", digits=1),
    Column("Top-5 error (%)", "imagenet_top5_error", digits=1),
    Column("Params (M)", "imagenet_params_m", digits=1),
    Column("Multiply-adds (M)", "imagenet_multiply_adds_m", digits=0),
    Column("Search (GPU-days)", "imagenet_search_gpu_days", digits=None),
]


def transfer(plan: Plan) -> Table:
    """Table 3: errors, size and cost of the transferred cells.

    Raises:
        ValueError: a metrics file is missing or lacks a number.
    """
    own, tests, notes = [], [], []
    for experiment in plan.config.experiments:
        chosen = experiment.transfer
        if chosen is None:
            continue
        block = _own(plan, experiment, chosen)
        own.append(block)
        tests += list(runs.differences(plan, experiment, chosen.methods, TOP1, "top-1 error", chosen.seeds))
        notes.append(wording.device_note("Transfer: wall time of one training", block.numbers, TIME.name))
        if experiment.space == "darts":
            notes += wording.first_order_note(plan, chosen.methods)
    compared = runs.difference_block(tests, TOP1, {"space": "Space", "dataset": "Found on"})
    heading = wording.published_heading(plan, " on ImageNet")
    keys = {"method": "Method", "imagenet_mode": "How"}
    theirs = Block(heading, keys, PUBLISHED, _published(), wording.NOT_STATED)
    files = (
        (cell.experiment.transfer.dataset, plan.cell_folder(cell) / FILE)
        for cell in plan.transfers()
        if cell.experiment.transfer
    )
    notes = [*dict.fromkeys(notes), *wording.tested_parts(files), "Params: without the auxiliary head.", CONVENTION]
    what = (
        "Transfer: cells found on small images, trained from scratch on large ones; test errors after the last epoch."
    )
    return Table(
        3,
        f"{what} {wording.about(plan, 'one found cell, trained once')}",
        [*own, *compared, theirs],
        notes,
    )


CONVENTION = (
    "Multiply-adds: of convolutions and linear layers for one image, half of torch.utils.flop_counter's count; mobile setting: "
    "under 600 M. Published counts follow the papers' own conventions, their numbers mostly are one training of one cell."
)


def _own(plan: Plan, experiment: Experiment, chosen: Transfer) -> Block:
    rows: list[dict[str, Any]] = []
    for method in chosen.methods:
        rows += [
            runs.measure(plan, experiment, method, q, chosen.seeds) for q in (TOP1, TOP5, PARAMS, MULTIPLY_ADDS, TIME)
        ]
        rows.append(_mobile(runs.measure(plan, experiment, method, MOBILE, chosen.seeds)))
    numbers = pd.DataFrame(rows)
    columns = [
        Column("Top-1 error (%)", TOP1.name),
        Column("best", TOP1.name, "best"),
        Column("Top-5 error (%)", TOP5.name),
    ]
    columns += [Column("Params (M)", PARAMS.name, digits=3), Column("Multiply-adds (M)", MULTIPLY_ADDS.name, digits=1)]
    columns += [Column("Mobile setting", MOBILE.name, "verdict"), runs.time_column("Transfer", TIME.name, numbers)]
    side = f"{chosen.image_size}x{chosen.image_size} pixels, {chosen.cells}x{chosen.channels}"
    heading = (
        f"This project: cells of {experiment.space} found on {experiment.dataset}, trained on {chosen.dataset} "
        f"({side} layers \N{MULTIPLICATION SIGN} channels, {wording.counted(chosen.epochs, 'epoch')})"
    )
    return Block(heading, {"method": "Method", "n": "n"}, columns, numbers)


def _mobile(row: dict[str, Any]) -> dict[str, Any]:
    """How many of the cells are small enough, in words."""
    small = round(row["mean"] * row["n"])
    verdict = {row["n"]: "yes", 0: "no"}.get(small, f"{small} of {row['n']}")
    return {**row, **dict.fromkeys(("std", "low", "high"), np.nan), "interval": "", "missing": "", "verdict": verdict}


def _published() -> pd.DataFrame:
    """Published numbers on ImageNet; those from memory stay marked."""
    numbers = literature.load("darts")
    return numbers[numbers["quantity"].str.startswith("imagenet")]
