"""Whether two checkouts leave the same: ``python -m benchmarks.same_outputs CHECKOUT OTHER [--size demo]``.

Both must have run the same configuration on one machine. Every file of results and figures is compared, byte for byte; of
metrics.json all but times, memory and provenance, of tables all but times, in their csv. Left out is what measures time by itself
(logs, checkpoints, the step cost, table 6) and the report, which shows it. Where all is the same, the last lines are entries for
midas/running/same_numbers.json, one for each compared step whose source has another digest: by them finished runs of the first
checkout stay finished in the second. What only a GPU computes is compared by runs on a GPU alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = (
    "*.log",
    "*_checkpoint/*",
    "*/cost/*",
    "*/tables/table_6.*",
    "*/report.html",
    "*/rulegraph.dot",
    "*.run.json",
)
NOT_COMPARED = ("cost", "provenance")
"""Keys of metrics.json."""
STEPS = {
    "data": "*/data/*/metrics.json",
    "search": "*/search/arch.npz",
    "decode": "*/decode/genotype.json",
    "lookup": "*/lookup/metrics.json",
    "retrain": "*/retrain/metrics.json",
    "transfer": "*/transfer/metrics.json",
    "analysis.statistics": "*/analysis/metrics.json",
}
"""Step -> a file that shows that it was compared."""
DIGESTS = """
import json, sys
try:
    from midas.running import provenance
except ImportError:  # a checkout from before the wings
    from midas import provenance
digest = getattr(provenance, sys.argv[1], provenance.digest)
print(json.dumps({step: digest(step) for step in sys.argv[2:]}))
"""


def files_of(checkout: Path, size: str) -> Iterator[Path]:
    """What is compared of a checkout, as paths in it."""
    for folder in (Path("results") / size, Path("figures") / size):
        for path in (checkout / folder).rglob("*"):
            own = path.relative_to(checkout)
            if path.is_file() and not any(own.match(pattern) or own.parent.match(pattern) for pattern in LEFT_OUT):
                yield own


def contents(path: Path) -> bytes | dict[str, object]:
    """What of a file is compared."""
    if path.parent.name == "tables":
        with path.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        timed = [row for row in rows if row["quantity"].endswith("seconds")]
        if timed:  # markdown and LaTeX are made of the csv
            return {"rows": [row for row in rows if row not in timed]}
    if path.name != "metrics.json":
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in NOT_COMPARED}


def digests(checkout: Path, function: str) -> dict[str, str]:
    """Step -> digest of its source in a checkout, by a function of `midas.running.provenance`."""
    call = [sys.executable, "-c", DIGESTS, function, *STEPS]
    return json.loads(subprocess.run(call, cwd=checkout, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    """Compare; 1 if something differs."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same_outputs", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--size", default="demo", help="of the configuration that both ran")
    told = parser.parse_args()
    one, other = ({*files_of(checkout, told.size)} for checkout in (told.checkout, told.other))
    if not one & other:
        sys.exit(f"{told.checkout} and {told.other}: no results of size {told.size} in both")
    wrong = [f"only in one: {path}" for path in sorted(one ^ other)]
    both = sorted(one & other)
    wrong += [f"differs: {path}" for path in both if contents(told.checkout / path) != contents(told.other / path)]
    print("\n".join([*wrong, f"{len(both)} files compared, {len(wrong)} differ"]))
    if wrong:
        return 1
    before, now = digests(told.checkout, "digest"), digests(told.other, "digest_of_source")
    compared = [step for step, file in STEPS.items() if any(path.match(file) for path in both)]
    print(json.dumps({now[step]: before[step] for step in compared if now[step] != before[step]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
