"""How far apart the weights of the convolutions are (claim C5, the paper's figure 2)."""

from __future__ import annotations

import pandas as pd

FIRST_CELLS = (0, 1)
"""Cells of the supernet that the paper's figure 2 shows."""


def conv_spread(table: pd.DataFrame) -> float:
    """Largest less least share of the convolutions of a search, as a multiple of the share of equal weights.

    Args:
        table: rows of analysis/weights.csv; the mean over `FIRST_CELLS` is taken.
    """
    by_cell = table[table["cell"].isin(FIRST_CELLS) & table["operation"].str.contains("conv")].groupby("cell")
    return float(((by_cell["share"].max() - by_cell["share"].min()) / by_cell["uniform"].mean()).mean())
