"""Neighbourhoods of the found cells: ``python -m midas.analysis.neighbourhoods RUN FOLDER``.

Files in FOLDER; each has a row for each accuracy that the configuration names, and accuracies are percent:

- cells.csv: each found cell, and the best one: accuracies at each distance.
- curves.csv: accuracy against distance, for groups of cells.
- paths.csv: accuracy along the shortest paths to cells at distance 3 of similar accuracy, for the same groups.
- tests.csv: found cells against others of the same accuracy; see `midas.analysis.neighbourhoods.matching`.
- metrics.json: what was looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from midas.analysis.neighbourhoods import landscape, matching
from midas.analysis.neighbourhoods.landscape import COUNTS, RADIUS
from midas.files.writing import write_table
from midas.images.contents import of_file
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.provenance import write_metrics
from midas.spaces.benchmark import CELLS
from midas.spaces.genotype import load

SPACE = "nas_bench_201"
ENDS = 10
"""Cells of similar accuracy to which paths lead, of each cell."""
SEED = 0
EVERY = ""
"""Stands for all methods in the column of a method."""
REFERENCES: dict[str, np.ndarray | None] = {"every": None, "without_none": landscape.WITHOUT_NONE}
"""Cells among which those of the same accuracy are looked for."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What the searches found.

    Attributes:
        places: of the different cells, ascending, [found].
        by: name of a method -> which of these it found, [found]; all of them under `EVERY`.
        searches: how many.
    """

    places: np.ndarray
    by: dict[str, np.ndarray]
    searches: int


def neighbourhoods(run: PresentRun, folder: Path) -> None:
    """Write the files.

    Raises:
        ValueError: the configuration doesn't ask for it, a genotype can't be read or is of another space, or the table can't
            be used.
    """
    started = time.monotonic()
    settings, table = run.config.neighbourhoods, run.config.nas_bench_201_table
    if settings is None or table is None:
        raise ValueError("neighbourhoods: the keys neighbourhoods and nas_bench_201_table are both needed")
    found = read_found(Plan(run.config))
    accuracies = landscape.read_accuracies(Path(table), settings.accuracies)
    numbers = accuracies.pop("index")
    drawn = np.random.default_rng(SEED).choice(CELLS, settings.random_cells, replace=False)
    rows: dict[str, list[Row]] = {name: [] for name in ("cells", "curves", "paths", "tests")}
    best = []
    for name, accuracy in accuracies.items():
        looked = _Looked(accuracy, found, drawn, settings.matched_cells)
        for file, new in looked.rows(numbers, settings.draws).items():
            rows[file] += [{"accuracy": name, **row} for row in new]
        best.append({"accuracy": name, "index": int(numbers[looked.best]), "arch": landscape.texts()[looked.best]})
    for file, all_rows in rows.items():
        write_table(folder / f"{file}.csv", all_rows)
    facts = {
        "found_cells": len(found.places),
        "found_with_none": int((~landscape.WITHOUT_NONE[found.places]).sum()),
        "searches": found.searches,
        "radius": RADIUS,
        "ends": ENDS,
        "best_cells": best,
        "benchmark_contents": of_file(table),
    }
    write_metrics(folder / "metrics.json", "analysis.neighbourhoods", run, facts, time.monotonic() - started)


def read_found(plan: Plan) -> Found:
    """The cells that searches of NAS-Bench-201 found.

    Raises:
        ValueError: a genotype can't be read, or is of another space.
    """
    cells = list(plan.cells(SPACE, searched=True))
    several = len({cell.experiment.dataset for cell in cells}) > 1
    by: dict[str, list[int]] = {}
    for cell in cells:
        path = plan.cell_folder(cell) / "decode/genotype.json"
        try:
            place = landscape.place_of(load(path))
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        name = f"{cell.method} on {cell.experiment.dataset}" if several else cell.method
        by.setdefault(name, []).append(place)
    places = np.unique([place for found in by.values() for place in found])
    if not len(places):
        raise ValueError(f"neighbourhoods: no method searches {SPACE}")
    masks = {name: np.isin(places, found) for name, found in by.items()}
    return Found(places, {EVERY: np.ones(len(places), bool), **masks}, len(cells))


class _Looked:
    """All that is looked at with one accuracy."""

    def __init__(self, accuracy: np.ndarray, found: Found, drawn: np.ndarray, matched_cells: int):
        self.accuracy, self.found = accuracy, found
        self.best = int(np.argmax(accuracy))
        self.pools = {
            name: matching.matched(found.places, accuracy, matched_cells, allowed)
            for name, allowed in REFERENCES.items()
        }
        self.drops = landscape.drops(accuracy)
        self.groups = {
            ("best", EVERY): np.array([self.best]),
            **{("found", method): found.places[mask] for method, mask in found.by.items()},
            **{(f"matched_{name}", EVERY): pools.ravel() for name, pools in self.pools.items()},
            ("random", EVERY): drawn,
        }
        self.steps = np.full((len(accuracy), RADIUS + 1), np.nan)
        self.barriers = np.full(len(accuracy), np.nan)
        self.changes = np.full((RADIUS + 1, len(accuracy)), np.nan)
        self._walk(np.unique(np.concatenate(list(self.groups.values()))))

    def _walk(self, places: np.ndarray) -> None:
        """What is computed of these cells alone: changes to their neighbours, and means over their paths."""
        self.changes[:, places] = np.stack([landscape.changes(place, self.accuracy) for place in places], axis=1)
        ends = np.stack([landscape.similar(place, self.accuracy, ENDS) for place in places])
        means = landscape.steps(np.repeat(places, ENDS), ends.ravel(), self.accuracy)
        self.barriers[places] = landscape.barriers(means).reshape(-1, ENDS).mean(1)
        self.steps[places] = means.reshape(-1, ENDS, RADIUS + 1).mean(1)

    def rows(self, numbers: np.ndarray, draws: int) -> dict[str, list[Row]]:
        """Rows of each file."""
        cells = list(self._cells(numbers))
        return {
            "cells": cells,
            "curves": list(self._curves()),
            "paths": list(self._paths()),
            "tests": list(self._tests(draws)),
        }

    def _at(self, places: np.ndarray) -> Iterator[Row]:
        """Accuracies at each distance of some cells together; a cell that is there twice counts twice."""
        weights = landscape.shells(np.bincount(places, minlength=len(self.accuracy)) / len(places))
        for radius, (shell, count) in enumerate(zip(weights, COUNTS, strict=True)):
            mean = float(shell @ self.accuracy) / count
            yield {"radius": radius, "mean": mean, **landscape.quantiles(self.accuracy, shell)}

    def _cells(self, numbers: np.ndarray) -> Iterator[Row]:
        """Of each found cell and of the best."""
        names = [method for method in self.found.by if method != EVERY]
        for place in dict.fromkeys([self.best, *self.found.places.tolist()]):
            who = [name for name in names if place in self.found.places[self.found.by[name]]]
            about = {
                "index": int(numbers[place]),
                "arch": landscape.texts()[place],
                "found_by": " ".join(who),
                "distance_to_best": int(landscape.far_from(self.best)[place]),
                "barrier": float(self.barriers[place]),
            }
            for row in self._at(np.array([place])):
                yield {**about, **row}

    def _curves(self) -> Iterator[Row]:
        for (group, method), places in self.groups.items():
            for row in self._at(places):
                drop = self.drops[row["radius"], places]
                about = {"group": group, "method": method, "cells": len(np.unique(places))}
                change = self.changes[row["radius"], places]
                means = {"drop": float(drop.mean()), "drop_std": _std(drop)}
                yield {**about, **row, **means, "change": float(change.mean()), "change_std": _std(change)}

    def _paths(self) -> Iterator[Row]:
        for (group, method), places in self.groups.items():
            barrier = self.barriers[places]
            for step, means in enumerate(self.steps[places].T):
                about = {"group": group, "method": method, "cells": len(np.unique(places)), "step": step}
                spread = landscape.quantiles(means, np.ones(len(means)))
                values = {"mean": float(means.mean()), **spread}
                yield {**about, **values, "barrier": float(barrier.mean()), "barrier_std": _std(barrier)}

    def _tests(self, draws: int) -> Iterator[Row]:
        distances = range(1, RADIUS + 1)
        measured = {("drop", radius): self.drops[radius] for radius in distances}
        measured |= {("change", radius): self.changes[radius] for radius in distances}
        measured["barrier", RADIUS] = self.barriers
        for (method, mask), (name, all_pools) in product(self.found.by.items(), self.pools.items()):
            allowed = REFERENCES[name]
            kept = mask if allowed is None else mask & allowed[self.found.places]  # each stands beside its own kind
            if not kept.any():
                continue
            places, pools = self.found.places[kept], all_pools[kept]
            gap = float(self.accuracy[pools].mean() - self.accuracy[places].mean())
            about = {"method": method, "reference": name, "cells": len(places), "accuracy_gap": gap}
            for (measure, radius), values in measured.items():
                compared = matching.compare(values[places], values[pools], draws)
                yield {**about, "measure": measure, "radius": radius, **compared}


def _std(values: np.ndarray) -> float:
    """Sample standard deviation over cells, NaN for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
