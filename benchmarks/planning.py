"""Time and memory of planning large graphs: ``python -m benchmarks.planning`` (needs Snakemake, no data, no GPU).

config/paper.yaml with more and more seeds, as ``snakemake -n`` plans it. Writes benchmarks/planning.json and prints it.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.analysis import clocked
from midas.running.provenance import processor

SEEDS = (1, 4, 6, 20, 60)


def plan(seeds: int) -> dict[str, float]:
    """Jobs, seconds, and peak memory in bytes of the planning process."""
    places = ["results_dir=no_results", "figures_dir=no_figures", f"seeds={list(range(seeds))}"]
    command = ["snakemake", "-n", "--cores", "1", "--configfile", "config/paper.yaml"]
    with tempfile.TemporaryFile("w+") as output:
        found = clocked(*command, "--config", *places, stdout=output)
        output.seek(0)
        total = re.search(r"^total +(\d+)$", output.read(), re.MULTILINE)
    if not total:
        sys.exit(f"snakemake -n names no number of jobs for {seeds} seeds")
    return {"seeds": seeds, "jobs": int(total[1]), **found}


def main() -> None:
    """Run from the command line."""
    found = {"processor": processor(), "rows": [plan(seeds) for seeds in SEEDS]}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
