"""What was scored before a job was killed: a line for each cell, written when it is known."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from midas.files.writing import write_text
from midas.running.checkpoint import differences


class Kept:
    """Scores of cells in a file that grows line by line. Its first line says what they are of.

    Attributes:
        rows: cell -> its scores by name, None for what is no finite number.
        seconds: cell -> how long they took.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        """Read what is there; scores of another run, or by other code, are set aside with a word."""
        self.path = path
        self.rows: dict[str, dict[str, float | None]] = {}
        self.seconds: dict[str, float] = {}
        lines = _lines(path)
        if lines and lines[0] != identity:
            aside = path.with_suffix(f".{len(list(path.parent.glob('*.aside')))}.aside")
            path.replace(aside)
            differing = "; ".join(differences(lines[0], identity))
            print(f"score: {path} belongs to another run ({differing}); it is kept as {aside}", file=sys.stderr)
            lines = []
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in lines[1:]:
            self.rows[line["cell"]], self.seconds[line["cell"]] = line["scores"], line["seconds"]
        # whole lines alone: the last one may have been cut off
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines or [identity]))

    def add(self, cell: str, scores: dict[str, float], seconds: float) -> None:
        """Keep the scores of a cell; they are on the disk when this returns."""
        row = {name: value if math.isfinite(value) else None for name, value in scores.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"cell": cell, "scores": row, "seconds": seconds}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[cell], self.seconds[cell] = row, seconds

    def forget(self) -> None:
        """The outputs are there: what was kept is no longer needed."""
        self.path.unlink(missing_ok=True)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole, none where there is no file."""
    found: list[dict[str, Any]] = []
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
