"""The statistics behind figures 2 to 5: ``python -m midas.analysis.statistics RUN FOLDER``.

Files in FOLDER (cells, edges and nodes are counted from 0, as in the dumps; edges go from `source` to `target`):

- dip.csv: Hartigan's dip test of each weight p[:, cell, edge, operation] over the images: statistic and p-value.
- similarity.csv: cosine between the mean weights of two classes, raw and after the mean over the classes is taken away.
- weights.csv: how much weight each operation gets in each cell; see `weights`.
- metrics.json: the summary of the dip tests, with configuration and provenance.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from diptest import diptest
from scipy.stats import false_discovery_control

from midas.analysis.dumps import Dump, load_dump
from midas.plan import Plan, PresentRun
from midas.provenance import write_metrics
from midas.step import main

LEVEL = 0.05
"""Level at which the dip test rejects unimodality (the paper's figure 3)."""

FEWEST_IMAGES = 4
"""The dip test says nothing about fewer values."""


def dip_tests(dump: Dump) -> pd.DataFrame:
    """Hartigan's dip test (Annals of Statistics 1985) of every weight over the images.

    Small p-values speak against a single mode.

    Returns:
        One row for each offered operation whose weight differs between images: cell, kind, edge, source, target,
        operation, images, dip, p_value.

    Raises:
        ValueError: the dump has fewer than four images.
    """
    if len(dump.p) < FEWEST_IMAGES:
        raise ValueError(f"{len(dump.p)} images are too few for the dip test; at least {FEWEST_IMAGES} are needed")
    rows = []
    for cell, kind in enumerate(dump.kinds):
        values = dump.p[:, cell].astype(np.float64)  # one cell at a time: a whole dump in double precision is large
        varies = dump.offered[cell] & (values.min(0) < values.max(0))
        for edge, operation in np.argwhere(varies):
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
    for cell, kind in enumerate(dump.kinds):
        mean = dump.p[:, cell].mean(axis=0, dtype=np.float64)
        std = dump.p[:, cell].std(axis=0, dtype=np.float64)
        total = mean.sum(axis=1, keepdims=True)
        share = np.divide(mean, total, out=np.full_like(mean, np.nan), where=total > 0)
        uniform = 1 / dump.offered[cell].sum(axis=1)
        for operation, name in enumerate(dump.operations):
            on = dump.offered[cell][:, operation]
            if on.any():
                means = [np.nanmean(share[on, operation]), uniform[on].mean(), mean[on, operation].mean()]
                rows.append((cell, kind, name, int(on.sum()), *means, std[on, operation].mean()))
    return pd.DataFrame(rows, columns=["cell", "kind", "operation", "edges", "share", "uniform", "weight", "std"])


def dip_summary(tests: pd.DataFrame, offered: int) -> dict[str, Any]:
    """Counts of the dip tests of one search.

    Args:
        tests: result of `dip_tests`.
        offered: number of weights, constant ones included.
    """
    p_values = tests["p_value"].to_numpy()
    rejected = int((p_values < LEVEL).sum())
    corrected = int((false_discovery_control(p_values, method="bh") < LEVEL).sum()) if len(p_values) else 0
    return {
        "tested": len(tests),
        "constant": offered - len(tests),
        "rejected": rejected,
        "rejected_share": rejected / len(tests) if len(tests) else None,
        "rejected_benjamini_hochberg": corrected,
    }


def statistics(run: PresentRun, folder: Path) -> None:
    """Write the four files.

    Raises:
        ValueError: the configuration has no key `analysis`, or a dump is missing or damaged.
    """
    started = time.monotonic()
    plan, chosen = Plan(run.config), run.config.analysis
    if chosen is None:
        raise ValueError("analysis: missing; it says which search the statistics look into")
    frames: dict[str, list[pd.DataFrame]] = {"dip": [], "similarity": [], "weights": []}
    summaries = []
    for method in dict.fromkeys([chosen.method, *chosen.compare]):
        for seed in run.config.seeds:
            dump = load_dump(plan.folder(chosen.space, chosen.dataset, method, seed) / "search/arch.npz")
            frames["weights"].append(weights(dump).assign(method=method, seed=seed))
            if method == chosen.method:
                tests = dip_tests(dump)
                frames["dip"].append(tests.assign(seed=seed))
                frames["similarity"].append(similarity(dump).assign(seed=seed))
                summary = dip_summary(tests, int(dump.offered.sum()))
                summaries.append({"seed": seed, "images": len(dump.p), **summary})
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in frames.items():
        _write(pd.concat(parts), folder / f"{name}.csv")
    numbers = {"dip_level": LEVEL, "dip": summaries}
    write_metrics(folder / "metrics.json", "analysis.statistics", run, numbers, time.monotonic() - started)


def _write(table: pd.DataFrame, path: Path) -> None:
    keys = [name for name in ("method", "seed") if name in table]
    table[keys + [name for name in table if name not in keys]].to_csv(path, index=False)


if __name__ == "__main__":
    main(PresentRun, statistics)
