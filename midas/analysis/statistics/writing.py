"""The statistics behind figures 2 to 5 and claims on them: ``python -m midas.analysis.statistics RUN FOLDER``.

Files in FOLDER (cells, edges and nodes are counted from 0, as in the dumps; edges go from `source` to `target`):

- dip.csv: Hartigan's dip test of each weight p[:, cell, edge, operation] over the images: statistic and p-value.
- similarity.csv: cosine between the mean weights of two classes, raw and after the mean over the classes is taken away.
- weights.csv: how much weight each operation gets in each cell; see `midas.analysis.statistics.weights`.
- variants.csv: what claims C5 to C7 are about, for each attention method of the analysed experiment; see `variant`.
- metrics.json: summary of the dip tests, the class's effect on the weights, the test of the groups of classes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

from midas.analysis.dumps import load_dump
from midas.analysis.statistics.class_tests import class_effect, group_test
from midas.analysis.statistics.dip import LEVEL, dip_summary, dip_tests
from midas.analysis.statistics.similarity import centred_matrix, group_summary, similarity
from midas.analysis.statistics.weights import conv_spread, weights
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.provenance import write_metrics


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
            groups = group_test(centred_matrix(cosines), chosen.groups) if chosen.groups else None
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
