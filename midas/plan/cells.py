"""Which cells a configuration has, found or drawn, how they are evaluated, where their files lie. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from midas.config.keys import Config, Experiment
from midas.config.method import UNSEARCHED


@dataclass(frozen=True)
class Cell:
    """One search: an experiment, one of its methods, one seed."""

    experiment: Experiment
    method: str
    seed: int


@dataclass(frozen=True)
class Cells:
    """The cells of a configuration.

    Attributes:
        config: the configuration.
    """

    config: Config

    @property
    def root(self) -> Path:
        """Folder of this size's results."""
        return Path(self.config.results_dir) / self.config.size

    def folder(self, space: str, dataset: str, method: str, seed: int) -> Path:
        """Folder of one search and of what follows from it: one axis a folder."""
        return self.root / space / dataset / method / f"seed{seed}"

    def chunk_folder(self, chunk: int) -> Path:
        """Folder of a part of the sample that is scored."""
        return self.root / "proxies" / f"chunk{chunk}"

    @property
    def accuracies_folder(self) -> Path:
        """Folder of what the user's tables say of the scored cells."""
        return self.root / "proxies" / "accuracies"

    def cell_folder(self, cell: Cell) -> Path:
        """Folder of one search."""
        return self.folder(cell.experiment.space, cell.experiment.dataset, cell.method, cell.seed)

    def retrain_folder(self, cell: Cell, setting: str = "") -> Path:
        """Folder of a retraining: under the settings of `retrain`, or under further ones by name."""
        also = setting and setting != cell.experiment.retrain_as
        return self.cell_folder(cell) / (f"retrain_also/{setting}" if also else "retrain")

    def retrained_also(self) -> Iterator[tuple[Cell, str]]:
        """All evaluated cells with the name of each further retraining."""
        for cell in self.cells(evaluated=True):
            for setting in cell.experiment.retrain_also:
                yield cell, setting

    def cells(self, space: str | None = None, evaluated: bool = False, searched: bool = False) -> Iterator[Cell]:
        """All cells, searched or not: of one space if it is named, those evaluated only, those searched only if asked for."""
        for experiment in self.config.experiments:
            if space in (None, experiment.space):
                for method in self.evaluated(experiment) if evaluated else _all_methods(experiment):
                    if not (searched and self.is_unsearched(method)):
                        for seed in self.config.seeds:
                            yield Cell(experiment, method, seed)

    def is_unsearched(self, method: str) -> bool:
        """Whether no search finds a method's cells: they are drawn, or given."""
        return method in self.config.methods and self.config.methods[method].weights in UNSEARCHED

    def evaluated(self, experiment: Experiment) -> list[str]:
        """Methods whose cells are evaluated: those of the ablation too where a look-up costs nothing."""
        return _all_methods(experiment) if self.evaluation(experiment.space) == "lookup" else experiment.methods

    def transfers(self) -> Iterator[Cell]:
        """All cells that are trained on large images."""
        for experiment in self.config.experiments:
            if experiment.transfer:
                for method in experiment.transfer.methods:
                    for seed in experiment.transfer.seeds or self.config.seeds:
                        yield Cell(experiment, method, seed)

    def attending(self) -> list[str]:
        """Attention methods of the analysed experiment: those that figures 1 to 5 compare, then those of its ablation."""
        chosen = self.config.analysis
        if chosen is None:
            return []
        ablation = self.experiment(chosen.space, chosen.dataset).ablation
        others = [method for method in ablation if self.config.methods[method].weights == "attention"]
        return list(dict.fromkeys([chosen.method, *chosen.compare, *others]))

    def costs(self) -> list[Experiment]:
        """Experiments whose searches' cost is measured."""
        return [experiment for experiment in self.config.experiments if experiment.cost]

    def evaluation(self, space: str) -> Literal["lookup", "retrain"]:
        """How the cells of a space are evaluated: looked up where there is a table of the benchmark, else trained."""
        return "lookup" if space == "nas_bench_201" and self.config.nas_bench_201_table else "retrain"

    def experiment(self, space: str, dataset: str) -> Experiment:
        """The experiment on a space and a data set."""
        return next(e for e in self.config.experiments if (e.space, e.dataset) == (space, dataset))


def _all_methods(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys([*experiment.methods, *experiment.ablation]))
