"""How a call of the workflow ended, in a few lines: what is made and where it lies, or what failed, and what only stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from midas.running.limits import GOES_ON

FAILED = re.compile(r"^Error in rule (\w+):\n(?:    .*\n)*?    log: ([^\n]+?)(?: \(check log file|\n)", re.MULTILINE)
"""In what Snakemake writes of a call: rule and logs of a job that ended with an error."""
OF_SEEDS = ("search", "decode", "lookup", "retrain", "retrain_also", "transfer")
"""Rules of which a seed may fail and others not."""
AGAIN = "The same command goes on from there."


def finished(page: Path) -> Iterator[str]:
    """A call that made all it was asked for."""
    if page.exists():
        yield f"Claims, tables and figures are on one page: {page.absolute().as_uri()}"


def ended_early(text: str) -> Iterator[str]:
    """A call that made less: jobs that failed are told from those that were asked to stop.

    Args:
        text: what Snakemake wrote of it.
    """
    found = [(rule, logs.split(", ")[0]) for rule, logs in FAILED.findall(text)]
    # not those that succeeded when they were tried again
    found = [(rule, log) for rule, log in found if not (Path(log).with_suffix("") / "metrics.json").exists()]
    stopped = {log for _, log in found if _stopped(Path(log))}
    failed = list(dict.fromkeys((rule, log) for rule, log in found if log not in stopped))
    if failed:
        yield f"{len(failed)} job(s) failed:"
        yield from (f"  {rule}: {log}" for rule, log in failed)
        if any(rule in OF_SEEDS for rule, _ in failed):
            yield "Tables of the seeds that are finished: add --config partial=true"
    if stopped:
        yield f"{len(stopped)} job(s) stopped. {AGAIN}"
    elif not failed:
        yield f"This call stopped before all was made; nothing failed. {AGAIN}"


def _stopped(log: Path) -> bool:
    """Whether a step said at the end of its log that it was asked to leave, or was interrupted."""
    try:
        last = log.read_text(errors="replace").splitlines()[-3:]
        return any(GOES_ON in line or line.startswith("KeyboardInterrupt") for line in last)
    except OSError:
        return False
