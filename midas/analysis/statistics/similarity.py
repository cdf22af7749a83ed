"""How alike are the weights of two classes (claim C7, the paper's figure 4)? Cosines, and the test of groups of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from midas.analysis.dumps import Dump
from midas.analysis.statistics.class_tests import group_test


def similarity(dump: Dump) -> pd.DataFrame:
    """Cosine between classes, each represented by its mean weights over all cells, edges and offered operations.

    All weights are positive, so raw cosines are near 1; `cosine_centred` is the cosine of the differences from the mean
    over the classes. Classes without an image are left out.

    Returns:
        One row for each ordered pair: class_a, class_b, cosine, cosine_centred (NaN where a class equals the mean).
    """
    present = np.unique(dump.labels)
    means = np.stack([dump.p[dump.labels == k].mean(axis=0, dtype=np.float64)[dump.offered] for k in present])
    names = [dump.classes[k] for k in present]
    count = len(names)
    pairs = {"class_a": np.repeat(names, count), "class_b": np.tile(names, count)}
    centred = means - means.mean(axis=0)
    return pd.DataFrame({**pairs, "cosine": _cosines(means).ravel(), "cosine_centred": _cosines(centred).ravel()})


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosines between rows: [n, features] -> [n, n]."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.full_like(vectors, np.nan), where=norms > 0)
    return units @ units.T


def group_summary(table: pd.DataFrame, groups: dict[str, list[str]]) -> dict[str, Any] | None:
    """The test of the groups of classes, for the similarity averaged over the seeds and for each seed.

    Args:
        table: similarity.csv.
        groups: names of the classes in each group, may be empty.
    """
    if not groups:
        return None
    seeds = table["seed"].unique().tolist()
    matrices = [centred_matrix(table[table["seed"] == seed]) for seed in seeds]
    mean = group_test(pd.concat(matrices).groupby(level=0).mean(), groups)
    each = [group_test(matrix, groups) for matrix in matrices]
    shared = ("within", "between", "difference", "p_value")
    rows = [{"seed": seed, **{key: found[key] for key in shared}} for seed, found in zip(seeds, each, strict=True)]
    return {"names": groups, **mean, "seeds": rows}


def centred_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Centred cosines of one search, classes by classes."""
    return table.pivot(index="class_a", columns="class_b", values="cosine_centred")
