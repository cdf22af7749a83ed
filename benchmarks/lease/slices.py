"""One slice of a device's time: what was asked for, and the rows that its parts have found. Nothing here needs torch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from midas.files.disk import flush

PARTS = ("right", "fast", "search", "report")
SEARCHED = "nas_bench_201"
"""Space that is searched."""

WAYS: dict[str, dict[str, bool]] = {
    "eager": {"merge_edges": False},
    "merged": {"merge_edges": True},
    "graph": {"merge_edges": True, "cuda_graph": True},
    "kernels": {"merge_edges": True, "cuda_graph": True, "triton": True},
}
"""Ways to compute a search, keys of `Search`; each but the first needs what the one before needs, and more."""


STRUCK = 3
"""Exit code of a part in which a CUDA graph couldn't be recorded: its way is struck, and the part may begin again."""


@dataclass(frozen=True)
class Slice:
    """What was asked for.

    Attributes:
        device: cuda or cpu.
        minutes: of the slice.
        only: parts that are run.
        tiny: sizes of seconds, for a CPU.
        other_code: whether searches go on that other code began.
        fail: part that fails, for tests.
        at_once: searches side by side; None: as many as were measured to pay.
    """

    device: str
    minutes: float
    only: list[str]
    tiny: bool = False
    other_code: bool = False
    fail: str | None = None
    at_once: int | None = None

    def write(self) -> None:
        """Into the current folder, which is that of the slice."""
        Path("slice.json").write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls) -> Slice:
        """From the current folder."""
        return cls(**json.loads(Path("slice.json").read_text()))


class Rows:
    """What a part has found, a line of JSON each, on disk as soon as it is known.

    Args:
        name: of the file, in the folder rows/.
    """

    def __init__(self, name: str):
        self.path = Path("rows", f"{name}.jsonl")

    def add(self, **row: Any) -> None:
        """Add a row."""
        self.path.parent.mkdir(exist_ok=True)
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write("\n" * torn + json.dumps(row) + "\n")
            file.flush()
            flush(file.fileno(), self.path)

    def read(self) -> list[dict[str, Any]]:
        """All rows but one that was being written when its process was killed, less those that say how the part went."""
        return [row for row in self._all() if not {"begun", "ended"} & row.keys()]

    def _all(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text(errors="replace").splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row

    @property
    def machine(self) -> dict[str, Any] | None:
        """On what they were found."""
        return next((row["begun"] for row in self._all() if "begun" in row), None)

    def begin(self, machine: dict[str, Any]) -> bool:
        """Whether there is something to do: False where all was found on such a machine by this code; else begins anew."""
        rows = list(self._all())
        if {"begun": machine} in rows and any("ended" in row for row in rows):
            return False
        self.path.unlink(missing_ok=True)
        self.add(begun=machine)
        return True

    def end(self) -> None:
        """Nothing is left to do."""
        self.add(ended=True)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return any("ended" in row for row in self._all())


@contextmanager
def own_failure(rows: Rows, **what: Any) -> Iterator[None]:
    """An error within it becomes a row, and ends nothing else: a lack of memory in one setting, say.

    But a recording that failed ends the process, which can't go on, with the code `STRUCK`.
    """
    try:
        yield
    except Exception as error:
        rows.add(**what, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if type(error).__name__ == "RecordingError":  # of `midas.training.recorded`, which needs torch
            strike(what["way"], what.get("space", SEARCHED), str(error))
            sys.exit(STRUCK)


def strike(way: str, space: str, why: str) -> None:
    """A way isn't right after all, on this machine and by this code: its CUDA graph can't be recorded."""
    Rows(f"right_{way}").add(way=way, space=space, check="recording", passed=False, error=why)


def left(until: float) -> float:
    """Seconds until a time of `time.time`."""
    return until - time.time()


def is_wrong(way: str, space: str) -> bool:
    """Whether part 1 found a difference; False where it found none yet."""
    return any(row.get("space") == space and not row.get("passed") for row in Rows(f"right_{way}").read())


def right_ways(space: str) -> list[str]:
    """Ways that part 1 found right for a space, the simplest first: its searches' cases were checked, and none of it differed."""
    found: list[str] = []
    for way in WAYS:
        rows = Rows(f"right_{way}")
        own = [row for row in rows.read() if row.get("space") == space]
        checked = {row.get("weights") for row in own if row.get("distribution") == "edge"}
        enough = own and not is_wrong(way, space) and (rows.ended or checked == {"attention", "static"})
        if enough and (way != "graph" or "merged" in found):  # which records what merged computes
            found.append(way)
    return found
