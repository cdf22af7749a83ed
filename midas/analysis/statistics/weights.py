"""The statistics behind figures 2 to 5 and claims on them: ``python -m midas.analysis.statistics RUN FOLDER``.

Files in FOLDER (cells, edges and nodes are counted from 0, as in the dumps; edges go from `source` to `target`):

- dip.csv: Hartigan's dip test of each weight p[:, cell, edge, operation] over the images: statistic and p-value.
- similarity.csv: cosine between the mean weights of two classes, raw and after the mean over the classes is taken away.
- weights.csv: how much weight each operation gets in each cell; see `weights`.
- variants.csv: what claims C5 to C7 are about, for each attention method of the analysed experiment; see `variant`.
- metrics.json: summary of the dip tests, the class's effect on the weights, the test of the groups of classes.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from diptest import diptest
from scipy.stats import binomtest, false_discovery_control

from midas.analysis.dumps import Dump, load_dump
from midas.analysis.statistics.class_tests import class_effect, group_test
from midas.analysis.statistics.spread import conv_spread
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.provenance import write_metrics

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


def variant(tests: pd.DataFrame, shares: pd.DataFrame, groups: dict[str, Any] | None) -> dict[str, Any]:
    """What a search says of claims C5 to C7.

    Args:
        tests: its `dip_tests`.
        shares: its `weights`.
        groups: the test of the groups of classes, None without groups.

    Returns:
        conv_spread, tested, rejected, and with groups group_difference and group_p_value.
    """
    row = {"conv_spread": conv_spread(shares), "tested": len(tests), "rejected": int((tests["p_value"] < LEVEL).sum())}
    return row if groups is None else {**row, **{f"group_{key}": groups[key] for key in ("difference", "p_value")}}


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


def group_summary(table: pd.DataFrame, groups: dict[str, list[str]]) -> dict[str, Any] | None:
    """The test of the groups of classes, for the similarity averaged over the seeds and for each seed.

    Args:
        table: similarity.csv.
        groups: names of the classes in each group, may be empty.
    """
    if not groups:
        return None
    seeds = table["seed"].unique().tolist()
    matrices = [_matrix(table[table["seed"] == seed]) for seed in seeds]
    mean = group_test(pd.concat(matrices).groupby(level=0).mean(), groups)
    each = [group_test(matrix, groups) for matrix in matrices]
    shared = ("within", "between", "difference", "p_value")
    rows = [{"seed": seed, **{key: found[key] for key in shared}} for seed, found in zip(seeds, each, strict=True)]
    return {"names": groups, **mean, "seeds": rows}


def _matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Centred cosines of one search, classes by classes."""
    return table.pivot(index="class_a", columns="class_b", values="cosine_centred")


def statistics(run: PresentRun, folder: Path) -> None:
    """Write the files.

    Raises:
        ValueError: the configuration has no key `analysis`, or a dump is missing or damaged.
    """
    started = time.monotonic()
    plan, chosen = Plan(run.config), run.config.analysis
    if chosen is None:
        raise ValueError("analysis: missing; it says which search the statistics look into")
    frames: dict[str, list[pd.DataFrame]] = {"dip": [], "similarity": [], "weights": []}
    summaries, effects, variants = [], [], []
    for method in plan.attending():
        for seed in run.config.seeds:
            dump = load_dump(plan.folder(chosen.space, chosen.dataset, method, seed) / "search/arch.npz")
            shares, tests, cosines = weights(dump), dip_tests(dump), similarity(dump)
            groups = group_test(_matrix(cosines), chosen.groups) if chosen.groups else None
            variants.append({"method": method, "seed": seed, **variant(tests, shares, groups)})
            if method in (chosen.method, *chosen.compare):
                frames["weights"].append(shares.assign(method=method, seed=seed))
            if method == chosen.method:
                frames["dip"].append(tests.assign(seed=seed))
                frames["similarity"].append(cosines.assign(seed=seed))
                summary = dip_summary(tests, int(dump.offered.sum()))
                summaries.append({"seed": seed, "images": len(dump.p), **summary})
                effects.append({"seed": seed, **class_effect(dump)})
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in frames.items():
        _write(pd.concat(parts), folder / f"{name}.csv")
    _write(pd.DataFrame(variants), folder / "variants.csv")
    grouped = group_summary(pd.concat(frames["similarity"]), chosen.groups)
    numbers = {"dip_level": LEVEL, "dip": summaries, "class_effect": effects, "groups": grouped}
    write_metrics(folder / "metrics.json", "analysis.statistics", run, numbers, time.monotonic() - started)


def _write(table: pd.DataFrame, path: Path) -> None:
    keys = [name for name in ("method", "seed") if name in table]
    table[keys + [name for name in table if name not in keys]].to_csv(path, index=False)
