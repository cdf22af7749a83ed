"""Table S3: how scores rank cells, and what searches found against what a score would have picked from as many cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from midas.analysis.proxies.found import Found, found_by
from midas.analysis.proxies.ranks import FEWEST, INTERVAL, correlation, picked
from midas.analysis.proxies.scored import Sample, accuracies, read_sample, values_of
from midas.analysis.statistics.seeds import PERCENT, POSITIVE, summarise
from midas.analysis.tables import runs, wording
from midas.analysis.tables.presentation import Block, Column, Table, write
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

SIZE = "params"
NO_TABLE = "no table of the benchmark is named, so accuracies of cells that weren't trained aren't known"
TOO_FEW = f"fewer than {FEWEST} of the scored cells are in the table, or all have the same score"
RANDOM = "any (a random cell)"
NOTES = (
    "Rank correlations: Spearman, over the scored cells, which a seed drew from all 15,625 whatever their accuracies; in "
    f"brackets the {INTERVAL}.",
    "CRoZe's code variant and SynFlow grow with the number of weights: read them beside params.",
)
OF_PICKS = (
    "Searches: mean and standard deviation over them; cells: how many there are. Picks: the cell of the highest score among so "
    "many cells of the sample; mean and standard deviation over all draws of so many, exact. They are as many as searches of a "
    "method, as the cells that one method's searches decoded on their way at most, and as were scored.",
    "The tables of accuracies are read after all searches, for this table alone: no score and no search knows them.",
    "Seconds: of one search, or of the scores of so many cells (all scores of a cell together), each as measured where it ran.",
)


def make(run: PresentRun, folder: Path) -> None:
    """Write table_s3.csv, table_s3.md and table_s3.tex.

    Raises:
        ValueError: the configuration asks for no scores, or a file that is needed is missing or damaged.
    """
    write(table(Plan(run.config)), folder)


def table(plan: Plan) -> Table:
    """Table S3.

    Raises:
        ValueError: as `make`.
    """
    if plan.config.proxies is None:
        raise ValueError(f"proxies: missing; size {plan.config.size} asks for no scores")
    sample, (tables, names) = read_sample(plan), accuracies(plan)
    searches = list(found_by(plan, [str(name) for name in tables.columns]))
    proxies, n = plan.config.proxies, len(sample.scores)
    network = f"{proxies.channels} channels, {wording.counted(proxies.cells, 'cell')} a stage, one batch of {proxies.batch_size}"
    what = (
        f"Scores without training: {n} cells of NAS-Bench-201 drawn at random, on {proxies.dataset} ({network}). Size "
        f"{plan.config.size} ({plan.config.note})."
    )
    columns = [Column(title, f"spearman_{name}", "interval") for name, title in [*names.items(), (SIZE, "params")]]
    ranks = pd.DataFrame(list(_ranks(plan, sample, tables, names)))
    heading = "Rank correlation of each score with accuracies, and with the number of parameters"
    blocks = [Block(heading, {"method": "Score"}, columns, ranks)]
    notes = [*NOTES, f"Scored on {sample.device}."]
    if tables.empty:
        return Table("S3", what, blocks, notes)
    notes[len(NOTES) : len(NOTES)] = OF_PICKS
    rows = pd.DataFrame([*_found(searches, tables, names), *_picks(plan, sample, tables, names, searches)])
    keys = {"group": "Chosen by", "method": "Name", "n": "Cells"}
    columns = [Column(title, name) for name, title in names.items()] + [Column("Seconds", "seconds", digits=1)]
    blocks.append(
        Block("What searches found, and what a score would have picked from as many cells", keys, columns, rows)
    )
    return Table("S3", what, blocks, notes)


def _source(plan: Plan) -> str:
    return f"{plan.chunk_folder(0).parent.as_posix()}/chunk*/scores.csv"


def _ranks(plan: Plan, sample: Sample, tables: pd.DataFrame, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A row for each score and each column that it is set against."""
    cells = list(sample.scores.index)
    others = {name: values_of(cells, name, tables) for name in names} | {SIZE: sample.scores[SIZE].to_numpy()}
    for score in sample.scores:
        for name, values in others.items():
            row = {**runs.BLANK, "space": "nas_bench_201", "method": score, "source": _source(plan)}
            row |= {"quantity": f"spearman_{name}", "measure": names.get(name, name)}
            if name in names and name not in tables:
                yield {**row, "n": 0, "missing": NO_TABLE}
                continue
            found = correlation(sample.scores[score].to_numpy(), values)
            row |= {"mean": found.value, "low": found.low, "high": found.high, "n": found.n, "interval": INTERVAL}
            yield {**row, "missing": TOO_FEW if np.isnan(found.value) else ""}


def _found(searches: list[Found], tables: pd.DataFrame, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of what searches found: mean and deviation over them."""
    for found in searches:
        row = {**runs.BLANK, "space": "nas_bench_201", "dataset": found.dataset, "method": found.method}
        row |= {"group": f"search on {found.dataset}" if found.seconds else "chance", "source": found.source}
        for name in names:
            values = values_of(found.cells, name, tables)
            if np.isnan(values).any():
                missing = NO_TABLE if name not in tables else "the table lacks a cell that was found"
                yield {**row, "quantity": name, "n": len(values), "missing": missing}
            else:
                yield {**row, "quantity": name, **summarise(list(values), max, PERCENT)}
        if found.seconds:
            yield {**row, "quantity": "seconds", **summarise(found.seconds, within=POSITIVE), "device": found.device}
        else:
            yield {**row, "quantity": "seconds", "n": len(found.cells), "missing": "a random cell is not searched"}


def _picks(
    plan: Plan, sample: Sample, tables: pd.DataFrame, names: dict[str, str], searches: list[Found]
) -> Iterator[dict[str, Any]]:
    """Rows of what each score would have picked from as many cells, and of a random cell."""
    whole = len(sample.scores)
    wanted = {len(plan.config.seeds), max((len(found.seen) for found in searches), default=1), whole} - {1}
    for score in [*sample.scores, None]:
        for m in sorted(wanted) if score else [1]:
            if m <= whole:
                row = {**runs.BLANK, "space": "nas_bench_201", "group": "score" if score else "chance", "n": m}
                row |= {"method": score or RANDOM, "source": _source(plan), "device": sample.device}
                for name in names:
                    yield {
                        **row,
                        "quantity": name,
                        **_pick(sample, score, values_of(list(sample.scores.index), name, tables), m),
                    }
                yield {**row, "quantity": "seconds", "mean": m * sample.seconds if score else 0.0}


def _pick(sample: Sample, score: str | None, values: np.ndarray, m: int) -> dict[str, Any]:
    scores = sample.scores[score].to_numpy() if score else np.zeros(len(values))
    known = np.isfinite(values) & np.isfinite(scores)
    if not known.any():
        return {"missing": NO_TABLE}
    if known.sum() < m:
        return {"missing": "fewer of the scored cells are in the table, or have a score, than are picked from"}
    mean, std = picked(scores[known], values[known], m)
    return {"mean": mean, "std": std if known.sum() > m else np.nan}
