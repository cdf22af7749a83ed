"""What all runs of a size say of themselves: versions, commit, hardware, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from midas.analysis.results import load_metrics
from midas.plan.plan import Plan

GIB = 1024**3
UNKNOWN = "not recorded"
SHORT = 12
"""Of a commit's name."""


@dataclass(frozen=True)
class Facts:
    """What stands in the metrics files of a size.

    Attributes:
        times: for each step: step, jobs, total, median, longest (wall time in words), memory, gpu_memory (peak, in words).
        total: wall time of all jobs, in words.
        provenance: fact -> how many runs have each value.
        warnings: sentences on what differs between runs, or isn't known.
    """

    times: list[dict[str, Any]]
    total: str
    provenance: dict[str, dict[str, int]]
    warnings: list[str] = field(default_factory=list)


def metrics_files(plan: Plan) -> Iterator[tuple[str, Path]]:
    """Step and `metrics.json` of every run of a configuration."""
    transfers = [e.transfer.dataset for e in plan.config.experiments if e.transfer]
    scored = [plan.config.proxies.dataset] if plan.config.proxies else []
    for dataset in dict.fromkeys([*(e.dataset for e in plan.config.experiments), *transfers, *scored]):
        yield "data", plan.root / "data" / dataset / "metrics.json"
    for cell in plan.cells(searched=True):
        yield "search", plan.cell_folder(cell) / "search/metrics.json"
    for cell in plan.cells(evaluated=True):
        step = plan.evaluation(cell.experiment.space)
        yield step, plan.cell_folder(cell) / step / "metrics.json"
    for cell, setting in plan.retrained_also():
        yield "retrain", plan.retrain_folder(cell, setting) / "metrics.json"
    for cell in plan.transfers():
        yield "transfer", plan.cell_folder(cell) / "transfer/metrics.json"
    for experiment in plan.costs():
        yield "cost", plan.root / experiment.space / experiment.dataset / "cost/metrics.json"
    for chunk in range(plan.config.proxies.chunks if plan.config.proxies else 0):
        yield "score", plan.chunk_folder(chunk) / "metrics.json"
    if plan.config.proxies and (plan.config.nas_bench_201_table or plan.config.proxies.robust):
        yield "accuracies", plan.accuracies_folder / "metrics.json"
    if plan.config.analysis:
        yield "statistics", plan.root / "analysis/metrics.json"


def collect(plan: Plan) -> Facts:
    """Read every `metrics.json` of a size; those that aren't there are counted.

    Raises:
        ValueError: a file is damaged.
    """
    files = list(metrics_files(plan))
    found = [(step, load_metrics(path)) for step, path in files if path.exists()]
    missing = [path.as_posix() for _, path in files if not path.exists()]
    provenance = {name: dict(sorted(Counter(values).items())) for name, values in _provenance(found).items()}
    steps = dict.fromkeys(step for step, _ in found)
    times = [_times(step, [content.get("cost", {}) for name, content in found if name == step]) for step in steps]
    total = sum(_number(content.get("cost", {}), "wall_seconds") for _, content in found)
    return Facts(times, duration(total), provenance, list(_warnings(provenance, missing, len(files))))


def _provenance(found: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """Fact -> its value in each run that states it."""
    facts: dict[str, list[str]] = {"commit": [], "processor or GPU": [], "cores of the machine": []}
    for _, content in found:
        origin, cost = content.get("provenance", {}), content.get("cost", {})
        commit, *changes = str(origin.get("commit") or UNKNOWN).partition("+")
        facts["commit"].append(commit[:SHORT] + "".join(changes))
        facts["processor or GPU"].append(str(cost.get("device") or UNKNOWN))
        facts["cores of the machine"].append(str(cost.get("cores") or UNKNOWN))
        for package, version in origin.get("versions", {}).items():
            facts.setdefault(package, []).append(version)
    return facts


def _warnings(provenance: dict[str, dict[str, int]], missing: list[str], files: int) -> Iterator[str]:
    if missing:
        yield f"{len(missing)} of {files} metrics files are missing, the first of them {missing[0]}; they are not counted."
    for name, values in provenance.items():
        if len(values) > 1:
            yield f"Runs differ in {name}: {', '.join(values)}."
    commits = provenance["commit"]
    if any(value.endswith("+changes") for value in commits):
        yield "Some runs were made from a tree that differed from its commit (+changes)."
    if UNKNOWN in commits:
        yield "Some runs don't know their commit, as they were made outside a repository."


def _times(step: str, costs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [_number(cost, "wall_seconds") for cost in costs]
    peaks = {key: max(_number(cost, f"peak_{key}_bytes") for cost in costs) for key in ("memory", "gpu_memory")}
    return {
        "step": step,
        "jobs": len(costs),
        "total": duration(sum(seconds)),
        "median": duration(median(seconds)),
        "longest": duration(max(seconds)),
        **{key: f"{peak / GIB:.2f}" if peak else "—" for key, peak in peaks.items()},
    }


def _number(cost: dict[str, Any], key: str) -> float:
    return float(cost.get(key) or 0)


def duration(seconds: float) -> str:
    """A time for people: "0.4 s", "12 s", "3 min 05 s", "2 h 07 min", "1 d 03 h"."""
    whole = round(seconds)
    for size, unit, part_size, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size:02d} {part}"
    return f"{seconds:.0f} s" if whole >= 10 else f"{seconds:.1f} s"
