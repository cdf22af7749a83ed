"""Table S4: how often a search over functions finds a known one again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from midas.analysis.results import load_metrics
from midas.analysis.tables import runs, wording
from midas.analysis.tables.presentation import Block, Column, Table, write
from midas.config.further.functions import Functions
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun

NUMBER = "S4"
KEYS = {"dataset": "Function", "method": "Search"}
FORMULAS = {"line": "2x + 1", "hinge": "max(0, 2x)", "sine": "sin x", "exponential": "exp x"}
QUANTITIES = {"found": "Found (%)", "same_form": "Same form (%)", "explained": "Explained (%), median"}
INTERVAL = "95 % Wilson interval of a share of searches"
COLUMNS = {"target", "noise", "method", "seed", *QUANTITIES}


def make(run: PresentRun, folder: Path) -> None:
    """Write the table.

    Raises:
        ValueError: the configuration does not ask for it, or a file that it needs is missing or damaged.
    """
    write(recovery(Plan(run.config)), folder)


def recovery(plan: Plan) -> Table:
    """Table S4: a block for each level of noise.

    Raises:
        ValueError: see `make`.
    """
    asked = plan.config.functions
    if asked is None:
        raise ValueError(f"table {NUMBER} does not exist at size {plan.config.size}; the key functions asks for it")
    path = plan.root / "functions/recovery.csv"
    rows = _read(path)
    enough = load_metrics(path.with_name("metrics.json")).get("enough", float("nan"))
    blocks = []
    for noise in rows["noise"].unique():
        group = rows[rows["noise"] == noise]
        numbers = pd.DataFrame(list(_numbers(group, path)))
        columns = [Column(title, name, "interval", 0) for name, title in QUANTITIES.items() if name != "explained"]
        columns.append(Column(QUANTITIES["explained"], "explained", "interval", 1))
        heading = f"Noise of {float(noise):g} standard deviations of y" if noise else "Without noise"
        blocks.append(Block(heading, KEYS, columns, numbers))
    what = f"Search over functions: how often a known one is found again, over {wording.counted(asked.seeds, 'seed')}."
    return Table(NUMBER, f"{what} Size {plan.config.size} ({plan.config.note}).", blocks, _notes(asked, enough))


def _read(path: Path) -> pd.DataFrame:
    """The rows of the searches.

    Raises:
        ValueError: the file is missing, or has other columns.
    """
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable: {getattr(error, 'strerror', None) or error}") from error
    if missing := COLUMNS - set(rows):
        raise ValueError(f"{path}: column {', '.join(sorted(missing))} is missing")
    return rows


def _numbers(rows: pd.DataFrame, path: Path) -> Iterator[dict[str, Any]]:
    """Tidy numbers of one level of noise."""
    for (target, method), group in rows.groupby(["target", "method"], sort=False):
        names = {"dataset": f"{target}: {FORMULAS.get(str(target), '')}", "method": method}
        facts = {**runs.BLANK, **names, "n": len(group), "source": path.as_posix()}
        for name in ("found", "same_form"):
            yield {**facts, "quantity": name, **share(int(group[name].sum()), len(group))}
        explained = 100 * group["explained"].fillna(float("-inf"))  # a search that has diverged explains nothing
        median, low, high = (float(explained.quantile(q, "nearest")) for q in (0.5, 0.25, 0.75))
        ends = {"mean": median, "low": low, "high": high, "interval": "median and quartiles over seeds"}
        yield {**facts, "quantity": "explained", **ends}


def share(count: int, of: int) -> dict[str, Any]:
    """A share in percent with its 95 % interval by Wilson (JASA 1927), which is no point where all or none were found.

    Returns:
        mean, low, high, interval.
    """
    found = stats.binomtest(count, of).proportion_ci(0.95, "wilson")
    return {"mean": 100 * count / of, "low": 100 * found.low, "high": 100 * found.high, "interval": INTERVAL}


def _notes(asked: Functions, enough: float) -> list[str]:
    return [
        f"Found: the function explains at least {enough:.0%} of the variance of the true one, at evenly spaced points without "
        f"noise from -2 to 2. Same form: besides none, its only operation is the true one's. Brackets: {INTERVAL}; for what "
        "is explained, quartiles over seeds (negative: the mean would be nearer).",
        f"Searched with {wording.counted(asked.nodes, 'node')} of {', '.join(asked.primitives)}; {asked.rows} rows, "
        f"{wording.counted(asked.epochs, 'epoch')} of one step of the architecture (learning rate {asked.arch_lr:g}) and "
        f"{asked.updates} of the coefficients, {asked.refit_updates} for the decoded function.",
        "original: softmax over the primitives of an edge; fair: a sigmoid of each. Architecture and coefficients learn on the "
        "same rows.",
    ]
