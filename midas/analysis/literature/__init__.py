"""Published numbers of other methods, as data: one csv file for each table.

Columns of the files: method, venue, reference (arXiv number or key), then for each quantity `<quantity>_mean`, `_std`,
`_best` and `_protocol` (how the number's protocol differs, empty where it doesn't), and for the row

- spread: "searches" where mean and std are over independent searches; else the source says otherwise or nothing.
- protocol: how the whole row's protocol differs.
- status: "verified" (read in the source) or "from_memory" (not confirmed; tables mark it).
- source, note: where the number was read, and what else a reader should know.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from midas.analysis.dumps import load_table

FOLDER = Path(__file__).parent
STATUSES = ("verified", "from_memory")
ROW_COLUMNS = ("searched_on", "spread", "status", "source", "note")


def load(name: str) -> pd.DataFrame:
    """Published numbers in long form.

    Args:
        name: "nas_bench_201" or "darts".

    Returns:
        One row for each method and quantity that has a number: method, quantity, mean, std, best, protocol and
        `ROW_COLUMNS`.

    Raises:
        ValueError: the file is damaged or has an unknown status.
    """
    path = FOLDER / f"{name}.csv"
    wide = load_table(path, ("method", "status", "source"))
    unknown = set(wide["status"]) - set(STATUSES)
    if unknown:
        raise ValueError(f"{path}: status {sorted(unknown)} is not allowed; allowed: {', '.join(STATUSES)}")
    found = (re.fullmatch("(.+)_(mean|best)", str(column)) for column in wide)
    quantities = dict.fromkeys(match[1] for match in found if match)
    rows = []
    for _, row in wide.iterrows():
        for quantity in quantities:
            values = {part: row.get(f"{quantity}_{part}", float("nan")) for part in ("mean", "std", "best")}
            if pd.notna([values["mean"], values["best"]]).any():
                protocol = _first_text(row.get(f"{quantity}_protocol"), row.get("protocol"))
                facts = {column: _first_text(row.get(column)) for column in ROW_COLUMNS}
                rows.append({"method": row["method"], "quantity": quantity, **values, "protocol": protocol, **facts})
    return pd.DataFrame(rows)


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str)), "")
