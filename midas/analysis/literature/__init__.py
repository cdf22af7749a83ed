"""Published numbers of other methods, as data: nas_bench_201.csv (table 1), darts.csv (2 and 3) and rdarts.csv (4).

Columns of the files: method, venue, reference (arXiv number or key), then for each quantity `<quantity>_mean`, `_std`,
`_best` (best or only value of the source), `_protocol` (how the number's protocol differs, empty where it doesn't) and
`_network` (layers x channels of the network that was evaluated, empty where not established), and for the row

- searched_on, dataset: data set that the cell was found on; data set of the numbers.
- imagenet_mode: whether the ImageNet numbers are a transfer or a search on ImageNet itself.
- statistic: what the numbers are: "mean of 3 searches", "best of 4 searches", "single value".
- spread: "searches" where mean and std are over independent searches; else the source says otherwise or nothing.
- protocol: how the whole row's protocol differs.
- network_status, network_source: whether and where `_network` was read.
- status: "verified" (read in the source) or "from_memory" (not confirmed; tables mark it).
- source, note: where the number was read, and what else a reader should know.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from midas.analysis.results import load_table

FOLDER = Path(__file__).parent
STATUSES = ("verified", "from_memory")
ROW_COLUMNS = (
    "searched_on", "dataset", "imagenet_mode", "statistic", "spread", "network_status", "network_source", "status",
    "source", "note",
)  # fmt: skip


def load(name: str) -> pd.DataFrame:
    """Published numbers in long form.

    Args:
        name: "nas_bench_201", "darts" or "rdarts".

    Returns:
        One row for each method and quantity that has a number: method, quantity, mean, std, best, network, protocol and
        `ROW_COLUMNS` (empty text where the file lacks one).

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
        facts = {column: _first_text(row.get(column)) for column in ROW_COLUMNS}
        for quantity in quantities:
            values = {part: row.get(f"{quantity}_{part}", float("nan")) for part in ("mean", "std", "best")}
            if pd.notna([values["mean"], values["best"]]).any():
                texts = {
                    "network": _first_text(row.get(f"{quantity}_network")),
                    "protocol": _first_text(row.get(f"{quantity}_protocol"), row.get("protocol")),
                }
                rows.append({"method": row["method"], "quantity": quantity, **values, **texts, **facts})
    return pd.DataFrame(rows)


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str)), "")
