"""The target `proxies`: its jobs, and that without its key there are none."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from places import ROOT
from small_configuration import write_table


def dry_run(folder, target, **keys):
    """What a dry run of config/test.yaml with other keys says."""
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | {"results_dir": str(folder / "results")} | keys
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in raw.items() if v is not None}))
    call = [
        sys.executable,
        "-m",
        "snakemake",
        "-n",
        "--cores",
        "2",
        "--nocolor",
        "--configfile",
        folder / "config.yaml",
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run([*call, "--", target], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_thousand_cells_are_twenty_jobs_and_the_table_is_read_after_all_searches(tmp_path):
    write_table(tmp_path / "table.csv")
    named = {"nas_bench_201_table": str(tmp_path / "table.csv"), "nas_bench_201_cells": 1}
    done = dry_run(tmp_path, "proxies", proxies={"dataset": "digits"}, **named)
    assert done.returncode == 0, done.stderr
    jobs = [line.split() for line in done.stdout.splitlines() if len(line.split()) == 2]
    counts = {name: int(count) for name, count in jobs if count.isdigit()}
    assert counts["score"] == 20
    assert counts["accuracies"] == counts["table_s3"] == counts["data"] == 1
    assert counts["search"] == 2
    assert counts["lookup"] == counts["decode"] == 3
    reading = done.stdout.index("accuracies of the scored cells")
    assert done.stdout.rindex(": decode: ") < reading


def test_without_the_key_there_is_no_such_target(tmp_path):
    done = dry_run(tmp_path, "proxies", proxies=None)
    assert done.returncode != 0
    assert "No rule to produce proxies" in done.stdout + done.stderr
