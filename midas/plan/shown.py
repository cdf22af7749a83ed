"""Which tables and figures a configuration has, of which seeds, and whose cells they show. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from midas.config.keys import ConfigError
from midas.plan.cells import Cell, Cells
from midas.plan.runs import PresentRun

ROBUST_DARTS = ("s1", "s2", "s3", "s4")
CELL_FIGURES = {6: ("darts", 0), 7: ("darts", 1), **{8 + i: (space, 0) for i, space in enumerate(ROBUST_DARTS)}}
"""Figure -> space and place among that space's data sets of the cell that it shows."""


@dataclass(frozen=True)
class Shown(Cells):
    """What is shown of the cells of a configuration."""

    def tables(self) -> list[int]:
        """Numbers of the tables that this configuration has experiments for."""
        experiments = self.config.experiments
        spaces = {experiment.space for experiment in experiments if experiment.methods}
        wanted = {
            1: "nas_bench_201" in spaces,
            2: "darts" in spaces,
            3: any(experiment.transfer for experiment in experiments),
            4: not spaces.isdisjoint(ROBUST_DARTS),
            5: any(experiment.ablation for experiment in experiments),
            6: bool(self.costs()),
        }
        return [number for number, present in wanted.items() if present]

    def figures(self) -> list[int]:
        """Numbers of the figures that this configuration has experiments for."""
        analysis = self.config.analysis
        numbers = [1] if analysis and analysis.example else []
        numbers += [2, 3, 4, 5] if analysis else []
        numbers += [number for number in CELL_FIGURES if self.shown_cell(number)]
        return numbers + ([12] if 1 in self.tables() else [])

    def shown_cell(self, number: int) -> Cell | None:
        """The search whose cell figures 6 to 11 show; None where there is none.

        It is the first attention method and the first seed on the first or second data set of the space: neither is chosen
        by a result.
        """
        space, place = CELL_FIGURES[number]
        methods = self.config.methods
        attending = [
            Cell(e, method, self.config.seeds[0])
            for e in self.config.experiments
            for method in e.methods
            if e.space == space and methods[method].weights == "attention"
        ]
        firsts = {cell.experiment.dataset: cell for cell in reversed(attending)}
        datasets = list(dict.fromkeys(cell.experiment.dataset for cell in attending))
        return firsts[datasets[place]] if place < len(datasets) else None

    def present(self, number: int | None = None) -> str:
        """The JSON of one table or figure, or of the statistics."""
        return self.presented(number).model_dump_json()

    def presented(self, number: int | None = None) -> PresentRun:
        """What one table or figure, or the statistics, are told."""
        return PresentRun(number=number, config=self.config)

    def finished(self) -> Self:
        """The same with the seeds of which everything is there; its note says which are left out.

        Raises:
            ConfigError: there is no such seed.
        """
        missing: dict[int, Path] = {}
        for cell in self.cells():
            names = ["decode/genotype.json"]
            names += [] if self.is_unsearched(cell.method) else ["search/metrics.json"]
            if cell.method in self.evaluated(cell.experiment):
                names.append(f"{self.evaluation(cell.experiment.space)}/metrics.json")
                names += [f"retrain_also/{setting}/metrics.json" for setting in cell.experiment.retrain_also]
            transfer = cell.experiment.transfer
            if transfer and cell.method in transfer.methods and cell.seed in (transfer.seeds or self.config.seeds):
                names.append("transfer/metrics.json")
            for path in (self.cell_folder(cell) / name for name in names):
                if not path.exists():
                    missing.setdefault(cell.seed, path)
        seeds = [seed for seed in self.config.seeds if seed not in missing]
        if not seeds:
            raise ConfigError([f"partial: no seed is finished; {next(iter(missing.values()))} is missing"])
        if not missing:
            return self
        experiments = []
        for experiment in self.config.experiments:
            transfer = experiment.transfer
            if transfer and transfer.seeds:
                kept = [seed for seed in transfer.seeds if seed in seeds]
                transfer = transfer.model_copy(update={"seeds": kept}) if kept else None
            experiments.append(experiment.model_copy(update={"transfer": transfer}))
        note = f"{self.config.note}; left out, not finished: seed {', '.join(map(str, missing))}"
        return replace(
            self, config=self.config.model_copy(update={"seeds": seeds, "note": note, "experiments": experiments})
        )
