"""Table S1: ranks of methods per benchmark and retraining setting, and whether the ranking survives a change of either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis.ranks.numbers import Ranked, ranked
from midas.analysis.statistics.ranks import INTERVAL, Agreement, agreement, interval, mean, of_pairs
from midas.analysis.statistics.seeds import ONE_SEED, PERCENT, summarise
from midas.analysis.tables import wording
from midas.analysis.tables.presentation import Block, Column, Table
from midas.analysis.tables.runs import BLANK
from midas.plan.plan import Plan

ALL = "all of them"
NO_PAIR = "nothing to compare: all methods are equal"
NUMBER = "S1"


def table(plan: Plan) -> Table:
    """Ranks and accuracies of the methods, and rank correlations between settings and between benchmarks.

    Raises:
        ValueError: a metrics file is missing or lacks the number.
    """
    found = ranked(plan)
    agreed = agreement(found.accuracy)
    what = "Methods ranked by the test accuracy of their cells, by benchmark (space) and by retraining setting."
    blocks = [_by_method(found, agreed, *kind) for kind in KINDS]
    return Table(
        NUMBER,
        f"{what} {wording.about(plan, wording.SEARCHED + ' and a retraining by each setting')}",
        [*blocks, *_correlation_blocks(found, agreed)],
        list(_notes(found)),
    )


KINDS = (
    ("rank", "Rank of the mean over seeds (1: most accurate; equal ones share theirs)"),
    ("accuracy", "Test accuracy (%)"),
)


def _by_method(found: Ranked, agreed: Agreement, kind: str, heading: str) -> Block:
    """A row for each benchmark and setting, a column for each method."""
    rows = []
    for b, (space, dataset) in enumerate(found.benchmarks):
        for h, setting in enumerate(found.settings):
            for m, method in enumerate(found.methods):
                names = {"space": space, "dataset": dataset, "setting": setting, "method": method}
                numbers: dict[str, Any] = {"mean": float(agreed.ranks[b, h, m]), "n": found.accuracy.shape[-1]}
                if kind == "accuracy":
                    numbers = summarise(found.accuracy[b, h, m].tolist(), max, PERCENT)
                rows.append({**BLANK, **names, "quantity": f"{kind}_{method}", **numbers})
    keys = {"space": "Space", "dataset": "Data set", "setting": "Retraining"}
    digits = 2 if kind == "accuracy" else None
    columns = [Column(method, f"{kind}_{method}", digits=digits) for method in found.methods]
    return Block(heading, keys, columns, pd.DataFrame(rows))


def _correlation_blocks(found: Ranked, agreed: Agreement) -> Iterator[Block]:
    """Between settings on each benchmark, between benchmarks under each setting, and both pair by pair."""
    column = [Column("Spearman's rank correlation", "rank_correlation", "interval")]
    parts = (
        ("retraining settings", "Benchmark", found.labels, found.settings, agreed.settings, agreed.drawn_settings),
        ("benchmarks", "Retraining", found.settings, found.labels, agreed.benchmarks, agreed.drawn_benchmarks),
    )
    for what, title, names, others, matrix, drawn in (part for part in parts if len(part[3]) > 1):
        rows = [_row(name, of_pairs(matrix[i]), of_pairs(drawn[:, i]), found) for i, name in enumerate(names)]
        rows.append(_row(ALL, mean(of_pairs(matrix), -1), mean(of_pairs(drawn), -1), found))
        frame = pd.DataFrame(rows).assign(part=f"between {what}")
        yield Block(f"Between {what}: mean over their pairs", {"group": title}, column, frame)
        pairs = [(i, j) for i in range(len(others)) for j in range(i + 1, len(others))]
        rows = [
            _row(f"{others[i]}, {others[j]}", mean(matrix[:, i, j], -1), mean(drawn[:, :, i, j], -1), found)
            for i, j in pairs
        ]
        if rows:
            frame = pd.DataFrame(rows).assign(part=f"between two {what}")
            heading = f"Two {what} each: mean over {'benchmarks' if title == 'Benchmark' else 'settings'}"
            yield Block(heading, {"group": what.capitalize()}, column, frame)


def _row(name: str, value: np.ndarray, drawn: np.ndarray, found: Ranked) -> dict[str, Any]:
    seeds = found.accuracy.shape[-1]
    low, high = interval(drawn)
    missing = NO_PAIR if np.isnan(value) else (ONE_SEED if seeds == 1 else "")
    numbers = {"mean": float(value), "low": low, "high": high, "n": seeds, "missing": missing}
    kind = INTERVAL if not np.isnan(low) else ""
    return {**BLANK, "group": name, "method": "", "quantity": "rank_correlation", **numbers, "interval": kind}


def _notes(found: Ranked) -> Iterator[str]:
    if found.accuracy.shape[-1] > 1:
        yield f"In brackets: {INTERVAL}; a draw takes the same seeds of a method on a benchmark under all settings."
        yield "Chance in the seeds makes rankings less alike, so an interval may lie below the number that it belongs to."
    if len(found.methods) == 2:
        yield "With two methods a rank correlation is 1 or \N{MINUS SIGN}1: whether their order is the same."
