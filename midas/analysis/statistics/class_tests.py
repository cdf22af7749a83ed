"""Whether the weights know the class of an image: permutation tests of two statements about a dump."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from midas.analysis.dumps import Dump

PERMUTATIONS = 200
"""Of the image labels; each costs one pass over the dump."""

MOST_EXACT = 10_000
"""Up to so many ways to put classes into groups are tried all, else as many random ones."""

SEED = 0
ROUNDING = 1e-6
"""Sums of the same numbers in another order differ by less, relative to their size."""


def class_effect(dump: Dump, permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Share of the variance over images that the class explains, and whether that is more than by chance.

    Eta squared: the sum of squares between classes over the total one, both summed over all weights that vary. If labels
    meant nothing it would be (classes - 1) / (images - 1) on average.

    Args:
        dump: of one search.
        permutations: of the image labels, drawn with a fixed seed.

    Returns:
        eta_squared, expected_by_chance, permutations, p_value (one-sided, at least 1 / (permutations + 1)); None where no
        weight varies or all images are of one class.
    """
    x = _centred(dump)
    _, codes, counts = np.unique(dump.labels, return_inverse=True, return_counts=True)
    result: dict[str, Any] = {"eta_squared": None, "expected_by_chance": None, "permutations": 0, "p_value": None}
    if x.shape[1] == 0 or len(counts) < 2:
        return result
    total = float(np.einsum("ij,ij->", x, x, dtype=np.float64))
    observed = _between(x, codes, counts)
    draw = np.random.default_rng(SEED)
    by_chance = [_between(x, draw.permutation(codes), counts) for _ in range(permutations)]
    as_large = sum(value >= observed * (1 - ROUNDING) for value in by_chance)
    return {
        "eta_squared": observed / total,
        "expected_by_chance": (len(counts) - 1) / (len(x) - 1),
        "permutations": permutations,
        "p_value": (1 + as_large) / (1 + permutations),
    }


def _centred(dump: Dump) -> np.ndarray:
    """The offered weights that vary over the images, less their means: float32 [images, weights]."""
    x = dump.p[:, dump.varies]
    return np.ascontiguousarray(x - x.mean(axis=0, dtype=np.float64), dtype=np.float32)


def _between(x: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> float:
    """Sum of squares between classes of centred values [images, weights]."""
    images = np.arange(len(x))
    members = csr_matrix((np.ones(len(x), np.float32), (codes, images)), shape=(len(counts), len(x)))
    sums = (members @ x).astype(np.float64)
    return float((np.square(sums).sum(axis=1) / counts).sum())


def group_test(similarity: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Whether classes of one group are more similar than classes of different groups.

    The difference of mean similarities within and between groups is compared with that of all other ways to put the same
    classes into groups of the same sizes. Classes outside all groups are left out, and classes without images.

    Args:
        similarity: square table, classes by classes.
        groups: names of the classes in each group.

    Returns:
        within, between, difference, permutations, exact (all ways were tried), p_value (one-sided). The numbers are None
        where there is no such pair or a similarity is undefined.
    """
    pairs = [(i, name) for i, members in enumerate(groups.values()) for name in members if name in similarity.index]
    codes, names = np.array([i for i, _ in pairs], dtype=int), [name for _, name in pairs]
    upper = np.triu_indices(len(names), 1)
    values = similarity.loc[names, names].to_numpy(dtype=float)[upper]
    same = codes[upper[0]] == codes[upper[1]]
    if same.all() or not same.any() or not np.isfinite(values).all():
        return dict.fromkeys(("within", "between", "difference", "permutations", "exact", "p_value"))
    assignments, exact = _assignments(codes)
    differences = _differences(assignments, values, upper)
    within, between = float(values[same].mean()), float(values[~same].mean())
    as_large = int((differences >= (within - between) - ROUNDING).sum())
    return {
        "within": within,
        "between": between,
        "difference": within - between,
        "permutations": len(assignments),
        "exact": exact,
        "p_value": as_large / len(assignments) if exact else (1 + as_large) / (1 + len(assignments)),
    }


def _assignments(codes: np.ndarray) -> tuple[np.ndarray, bool]:
    """Ways to give classes the same groups in another order [ways, classes], and whether these are all."""
    sizes = np.bincount(codes)
    count = math.factorial(len(codes)) // math.prod(math.factorial(size) for size in sizes)
    if count <= MOST_EXACT:
        return np.array(list(_all_assignments(sizes.tolist(), tuple(range(len(codes)))))), True
    return np.random.default_rng(SEED).permuted(np.tile(codes, (MOST_EXACT, 1)), axis=1), False


def _all_assignments(sizes: list[int], places: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Each way to fill `places` with sizes[0] times 0, sizes[1] times 1, and so on."""
    for chosen in combinations(places, sizes[-1]):
        if len(sizes) == 1:
            yield np.zeros(len(places), int)
            return
        rest = tuple(place for place in places if place not in chosen)
        for inner in _all_assignments(sizes[:-1], rest):
            whole = np.full(len(places), len(sizes) - 1)
            whole[[places.index(place) for place in rest]] = inner
            yield whole


def _differences(assignments: np.ndarray, values: np.ndarray, upper: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean similarity within less that between groups, for each assignment [ways, classes]."""
    parts = np.array_split(assignments, 1 + len(assignments) * len(values) // 10**7)
    found = []
    for part in parts:  # a part's comparisons fit into some 100 MB
        same = part[:, upper[0]] == part[:, upper[1]]
        count, inside = same.sum(axis=1), same @ values
        found.append(inside / count - (values.sum() - inside) / (len(values) - count))
    return np.concatenate(found)
