"""Are the weights unimodal over the images (claim C6, the paper's figure 3)? Hartigan's dip test of each, and their counts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from diptest import diptest
from scipy.stats import binomtest, false_discovery_control

from midas.analysis.dumps import Dump

LEVEL = 0.05
"""Level at which the dip test rejects unimodality (the paper's figure 3)."""

FEWEST_IMAGES = 4
"""The dip test says nothing about fewer values."""

MOST_TABULATED = 72_000
"""Images up to which the package diptest has a table of p-values; beyond, it takes those of this number for the same
sqrt(images) * dip, whose distribution hardly changes any more."""

FINEST = 1e-5
"""Least standard deviation of a weight that is tested. Float32 holds values near 0.2 in steps of 1.5e-8, which the test finds in
25,000 values of a normal distribution with a deviation of 1e-6, but no more of 1e-5. Means over weights need no such limit."""


def dip_tests(dump: Dump) -> pd.DataFrame:
    """Hartigan's dip test (Annals of Statistics 1985) of every weight over the images.

    Small p-values speak against a single mode. Beyond `MOST_TABULATED` images they are approximate.

    Returns:
        One row for each offered operation whose weight differs between images by more than the steps of float32 (`FINEST`):
        cell, kind, edge, source, target, operation, images, dip, p_value.

    Raises:
        ValueError: the dump has fewer than four images.
    """
    if len(dump.p) < FEWEST_IMAGES:
        raise ValueError(f"{len(dump.p)} images are too few for the dip test; at least {FEWEST_IMAGES} are needed")
    rows, varies = [], dump.offered & (dump.std >= FINEST)
    for cell, kind in enumerate(dump.kinds):
        values = dump.p[:, cell].astype(np.float64)  # one cell at a time: a whole dump in double precision is large
        for edge, operation in np.argwhere(varies[cell]):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sample size exceeds", UserWarning)  # figure 3 says it
                dip, p_value = diptest(values[:, edge, operation])
            source, target = dump.edges[edge].tolist()
            name = dump.operations[operation]
            rows.append((cell, kind, edge, source, target, name, len(values), dip, p_value))
    columns = ["cell", "kind", "edge", "source", "target", "operation", "images", "dip", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def dip_summary(tests: pd.DataFrame, offered: int) -> dict[str, Any]:
    """Counts of the dip tests of one search, and what chance would do.

    A test at level 0.05 rejects at most 5 % of unimodal weights (fewer where they are bell-shaped: the dip test is exact
    for the uniform distribution alone). Interval and binomial test take the weights as independent; those of an edge
    aren't, since they sum to a constant, so both are rough guides.

    Args:
        tests: result of `dip_tests`.
        offered: number of weights, those included that hardly differ between images.

    Returns:
        tested, constant (equal for all images up to rounding, not tested), rejected (p < 0.05), their share with its 95 %
        Clopper-Pearson interval (rejected_low, rejected_high), expected_by_chance, chance_p_value (probability of as many
        rejections or more by chance) and rejected_benjamini_hochberg (at a false discovery rate of 0.05). Shares are None
        where nothing was tested.
    """
    p_values = tests["p_value"].to_numpy()
    tested, rejected = len(p_values), int((p_values < LEVEL).sum())
    counts: dict[str, Any] = {"tested": tested, "constant": offered - tested, "rejected": rejected}
    shares = dict.fromkeys(("rejected_share", "rejected_low", "rejected_high", "expected_by_chance", "chance_p_value"))
    if tested == 0:
        return {**counts, **shares, "rejected_benjamini_hochberg": 0}
    chance = binomtest(rejected, tested, LEVEL, alternative="greater")
    low, high = binomtest(rejected, tested).proportion_ci(0.95, "exact")
    values = rejected / tested, float(low), float(high), LEVEL * tested, float(chance.pvalue)
    corrected = int((false_discovery_control(p_values, method="bh") < LEVEL).sum())
    return {**counts, **dict(zip(shares, values, strict=True)), "rejected_benjamini_hochberg": corrected}
