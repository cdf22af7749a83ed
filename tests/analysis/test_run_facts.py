"""Facts of all runs: times, commits and devices, and where they differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_claims import make_config

from midas.analysis import run_facts
from midas.plan.plan import Plan


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (3599.9, "1 h 00 min"),
        (7620, "2 h 07 min"), (97200, "1 d 03 h"),
    ],
)  # fmt: skip
def test_times_are_said_for_people(seconds, text):
    assert run_facts.duration(seconds) == text


def write_metrics(path: Path, commit: str | None, device: str, seconds: float) -> None:
    cost = {"wall_seconds": seconds, "device": device, "cores": 2, "peak_memory_bytes": 2**30}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": {"commit": commit, "versions": {"torch": "2.15"}}, "cost": cost}))


def test_facts_of_all_runs_are_counted_and_differences_are_told(tmp_path):
    plan = Plan(make_config("test", tmp_path))
    files = list(run_facts.metrics_files(plan))
    for place, (_, path) in enumerate(files):
        write_metrics(path, "abc" if place else "abc+changes", "A" if place else "B", 60.0)
    files[-1][1].unlink()
    facts = run_facts.collect(plan)
    assert facts.provenance["processor or GPU"] == {"A": len(files) - 2, "B": 1}
    assert facts.provenance["torch"] == {"2.15": len(files) - 1}
    assert sum(row["jobs"] for row in facts.times) == len(files) - 1
    assert facts.times[0] == {
        "step": "data", "jobs": 2, "total": "2 min 00 s", "median": "1 min 00 s", "longest": "1 min 00 s", "memory": "1.00",
        "gpu_memory": "—",
    }  # fmt: skip
    told = " ".join(facts.warnings)
    for words in (
        "1 of",
        "Runs differ in commit: abc, abc+changes",
        "processor or GPU: A, B",
        "differed from its commit",
    ):
        assert words in told


def test_equal_runs_are_told_without_warnings(tmp_path):
    plan = Plan(make_config("test", tmp_path))
    for _, path in run_facts.metrics_files(plan):
        write_metrics(path, "abc", "A", 1.0)
    assert run_facts.collect(plan).warnings == []
