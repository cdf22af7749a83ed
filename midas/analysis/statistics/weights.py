"""How much weight does each operation get, and how far apart are the convolutions (claim C5, the paper's figure 2)?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from midas.analysis.dumps import Dump

FIRST_CELLS = (0, 1)
"""Cells of the supernet that the paper's figure 2 shows."""


def weights(dump: Dump) -> pd.DataFrame:
    """How much weight each operation gets in each cell.

    Returns:
        One row for each cell and each operation that it offers, with means over the edges that offer it:

        - share: the operation's share in its edge's mean weight, i.e. p(operation | edge), which sums to 1 over the
          operations of an edge whatever the distribution, so that methods compare.
        - uniform: that share if all operations of an edge had the same weight.
        - weight: the mean weight itself (its sum depends on the distribution: 1 an edge, 1 or 2 a node).
        - std: standard deviation of the weight over the images.
        - edges: number of those edges.
    """
    rows = []
    for cell, (kind, mean, std) in enumerate(zip(dump.kinds, dump.mean, dump.std, strict=True)):
        total = mean.sum(axis=1, keepdims=True)
        share = np.divide(mean, total, out=np.full_like(mean, np.nan), where=total > 0)
        uniform = 1 / dump.offered[cell].sum(axis=1)
        for operation, name in enumerate(dump.operations):
            on = dump.offered[cell][:, operation]
            if on.any():
                means = [np.nanmean(share[on, operation]), uniform[on].mean(), mean[on, operation].mean()]
                rows.append((cell, kind, name, int(on.sum()), *means, std[on, operation].mean()))
    return pd.DataFrame(rows, columns=["cell", "kind", "operation", "edges", "share", "uniform", "weight", "std"])


def conv_spread(table: pd.DataFrame) -> float:
    """Largest less least share of the convolutions of a search, as a multiple of the share of equal weights.

    Args:
        table: rows of analysis/weights.csv; the mean over `FIRST_CELLS` is taken.
    """
    by_cell = table[table["cell"].isin(FIRST_CELLS) & table["operation"].str.contains("conv")].groupby("cell")
    return float(((by_cell["share"].max() - by_cell["share"].min()) / by_cell["uniform"].mean()).mean())
