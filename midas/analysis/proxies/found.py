"""What the searches of a configuration found in NAS-Bench-201, and which cells they decoded on their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midas.analysis.results import load_metrics, load_number, load_table
from midas.analysis.tables import runs
from midas.plan.plan import Plan


@dataclass(frozen=True)
class Found:
    """What the searches of one method on one data set found.

    Attributes:
        method: its name.
        dataset: that was searched on.
        cells: the found cells, one for each seed.
        seen: all cells that were decoded on the way, each once.
        seconds: of each search; empty for random cells.
        device: what was searched on.
        source: files that this is from.
    """

    method: str
    dataset: str
    cells: list[str]
    seen: set[str]
    seconds: list[float]
    device: str
    source: str


def found_by(plan: Plan, columns: Sequence[str]) -> Iterator[Found]:
    """What each method found, of experiments in NAS-Bench-201; nothing where no accuracy of a cell is known.

    Args:
        plan: the plan.
        columns: accuracies that are known.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if not columns or plan.evaluation("nas_bench_201") != "lookup":
        return
    for experiment in plan.config.experiments:
        for method in plan.evaluated(experiment) if experiment.space == "nas_bench_201" else []:
            folders = [plan.folder(experiment.space, experiment.dataset, method, seed) for seed in plan.config.seeds]
            cells, seen = [], set[str]()
            for folder in folders:
                path = folder / "lookup/metrics.json"
                try:
                    cells.append(str(load_metrics(path)["cell"]["arch"]))
                except (KeyError, TypeError) as error:
                    raise ValueError(f"{path}: key cell.arch is missing") from error
                seen.update(load_table(folder / "lookup/history.csv", ["arch"])["arch"])
            searches = [] if plan.is_unsearched(method) else [folder / "search/metrics.json" for folder in folders]
            seconds = [load_number(path, "cost", "wall_seconds") for path in searches]
            source = f"{folders[0].parent.as_posix()}/seed*/lookup/metrics.json"
            yield Found(method, experiment.dataset, cells, seen, seconds, runs.devices(searches), source)
