"""The block of table 5 that sets the attention methods of the analysed experiment against the claims on searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from midas.analysis.results import load_number, load_table
from midas.analysis.statistics.seeds import ANY, LEVEL, PERCENT, POSITIVE, summarise
from midas.analysis.tables import runs
from midas.analysis.tables.presentation import Block, Column
from midas.analysis.tables.runs import Quantity
from midas.config.keys import Experiment
from midas.plan.claims import read_claims
from midas.plan.plan import Plan

CONSTANT = "weights don't vary"
CLAIM_NOTES = {
    "optimal_cell": "C1: seeds whose cell is the paper's.",
    "cells": "Cells: numbers of the decoded cells in the benchmark, seed by seed.",
    "c10_valid_acc_200": "CIFAR-10 valid.: the benchmark's accuracy of the cells (%) on the validation half, "
    "trained on the other.",
    "c100_test_acc_200": "CIFAR-100, ImageNet16-120: test accuracy of the cells (%), looked up as that on CIFAR-10.",
    "conv_spread": "C5: largest less least weight of the convolutions in the first two cells, as a multiple of equal weights "
    "(the claim: 0 without patches, above with them).",
    "dip_rejected": "C6: weights whose dip test rejects a single mode at 0.05.",
    "group_difference": "C7: mean cosine between classes of one group less that between classes of two, and seeds of which a "
    "permutation test of it is significant at 0.05; the claim asks for an effect of the class too (claims.md).",
}
"""Quantity -> what the table says of it."""
LOOKED_UP = "lookup/metrics.json"
ELSEWHERE = {
    name: Quantity(name, LOOKED_UP, runs.number("cell", name), within=PERCENT)
    for name in ("c10_valid_acc_200", "c100_test_acc_200", "in16_test_acc_200")
}
"""What found cells are worth in the benchmark beside the first block's column."""
HEADINGS = ("CIFAR-10 valid.", "CIFAR-100", "ImageNet16-120")
ON_WEIGHTS = ("weight_spread", "dip_rejections", "class_similarity")
"""Metrics of the claims C5 to C7."""


def against_claims(plan: Plan) -> Block:
    """What each attention method of the analysed experiment says of the claims on searches, from analysis/variants.csv."""
    chosen = plan.config.analysis
    assert chosen is not None
    experiment = plan.experiment(chosen.space, chosen.dataset)
    path = plan.root / "analysis/variants.csv"
    table = load_table(path, ("method", "seed", "conv_spread", "tested", "rejected"))
    grouped = "group_difference" in table
    columns = [Column("C5: spread", "conv_spread", digits=3), Column("C6: rejected (%)", "dip_rejected", digits=1)]
    columns += (
        [Column("C7: cosine", "group_difference"), Column("significant", "group_seeds", "note")] if grouped else []
    )
    cell = next((c for c in read_claims(plan.config.claims).claims if c.metric == "optimal_cell"), None)
    if cell and plan.evaluation(experiment.space) == "lookup" and experiment.space in cell.spaces:
        first = [Column(f"C1: no. {cell.expected:.0f}", "optimal_cell", "note"), Column("Cells", "cells", "note")]
        columns = first + [Column(*named) for named in zip(HEADINGS, ELSEWHERE, strict=True)] + columns
    rows: list[dict[str, Any]] = []
    for method in plan.attending():
        own = table[table["method"] == method].set_index("seed").loc[list(plan.config.seeds)]
        names = {"space": experiment.space, "dataset": experiment.dataset, "method": method, "n": len(own)}
        rejected = 100 * own["rejected"] / own["tested"].where(own["tested"] > 0)
        quantities = {"conv_spread": own["conv_spread"], "dip_rejected": rejected}
        if grouped:
            quantities["group_difference"] = own["group_difference"]
            tested = own["group_p_value"].notna().all()
            rows.append(_count(names, "group_seeds", own["group_p_value"] < LEVEL, path, "" if tested else CONSTANT))
        for quantity, values in quantities.items():
            within = {"conv_spread": POSITIVE, "dip_rejected": PERCENT}.get(quantity, ANY)
            known = summarise(values.tolist(), within=within) if values.notna().all() else {"missing": CONSTANT}
            rows.append({**runs.BLANK, **names, "quantity": quantity, "source": path.as_posix(), **known})
        if columns[0].quantity == "optimal_cell" and cell:
            rows += _looked_up(plan, experiment, names, cell.expected)
    heading = f"Attention methods against the claims on searches ({experiment.space} on {experiment.dataset})"
    return Block(heading, {"method": "Method", "n": "n"}, columns, pd.DataFrame(rows))


def _looked_up(
    plan: Plan, experiment: Experiment, names: dict[str, Any], expected: float | None
) -> list[dict[str, Any]]:
    """Rows of what the benchmark says of a method's cells, of which the paper's has the number that is expected."""
    method = names["method"]
    files = [plan.folder(experiment.space, experiment.dataset, method, seed) / LOOKED_UP for seed in plan.config.seeds]
    found = [int(load_number(file, "cell", "index")) for file in files]
    source = files[0].parents[2] / "seed*" / LOOKED_UP
    hits = _count(names, "optimal_cell", pd.Series(found) == expected, source)
    same = {**runs.BLANK, **names, "quantity": "cells", "source": source.as_posix()}
    cells = {**same, "mean": len(set(found)), "note": ", ".join(map(str, found))}
    return [hits, cells, *(runs.measure(plan, experiment, method, quantity) for quantity in ELSEWHERE.values())]


def _count(names: dict[str, Any], quantity: str, hits: pd.Series, source: Path, missing: str = "") -> dict[str, Any]:
    """A row that says of how many seeds something is true, or why that isn't known."""
    row = {**runs.BLANK, **names, "quantity": quantity, "source": source.as_posix()}
    if missing:
        return {**row, "missing": missing}
    return {**row, "mean": hits.mean(), "note": f"{int(hits.sum())} of {len(hits)}"}


def claim_notes(plan: Plan, block: Block) -> list[str]:
    """What the columns mean, and whether the claims are about another space."""
    assert plan.config.analysis is not None
    space = plan.config.analysis.space
    claims = [claim for claim in read_claims(plan.config.claims).claims if claim.metric in ON_WEIGHTS]
    others = [claim for claim in claims if space not in claim.spaces]
    notes = [CLAIM_NOTES[column.quantity] for column in block.columns if column.quantity in CLAIM_NOTES]
    if others:
        spaces = ", ".join(dict.fromkeys(name for claim in others for name in claim.spaces))
        notes.append(f"{', '.join(claim.id for claim in others)} are about {spaces}; here it is {space}.")
    return notes
