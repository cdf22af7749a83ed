"""From one configuration to resolved runs: what is searched, decoded and evaluated, with what settings, in which folder.

The workflow reads a `Plan`; each step gets one `...Run` as JSON and nothing else. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from midas.config import Config, Experiment, Method, Retrain, Search, Strict
from midas.datasets import Dataset, resolve

Device = Literal["auto", "cpu", "cuda"]


class DataRun(Strict):
    """Make a data set ready."""

    dataset: Dataset


class SearchRun(Strict):
    """Search one space on one data set with one method and seed."""

    space: str
    dataset: Dataset
    method: Method
    seed: int
    device: Device
    threads: int
    search: Search


class DecodeRun(Strict):
    """Turn the dump of a search into a cell."""

    space: str
    method: Method
    dump: str


class RetrainRun(Strict):
    """Train a found cell from scratch."""

    genotype: str
    dataset: Dataset
    seed: int
    device: Device
    threads: int
    retrain: Retrain


class LookupRun(Strict):
    """Look a found cell, and the cells decoded on the way, up in the benchmark's table."""

    genotype: str
    history: str
    table: str


class PresentRun(Strict):
    """Draw one table or figure, or compute the statistics behind them, from files alone."""

    number: int | None = None
    config: Config


@dataclass(frozen=True)
class Cell:
    """One search: an experiment, one of its methods, one seed."""

    experiment: Experiment
    method: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """A checked configuration with everything that follows from it."""

    config: Config

    @property
    def root(self) -> Path:
        """Folder of this size's results."""
        return Path(self.config.results_dir) / self.config.size

    def folder(self, space: str, dataset: str, method: str, seed: int) -> Path:
        """Folder of one search and of what follows from it: one axis a folder."""
        return self.root / space / dataset / method / f"seed{seed}"

    def cell_folder(self, cell: Cell) -> Path:
        """Folder of one search."""
        return self.folder(cell.experiment.space, cell.experiment.dataset, cell.method, cell.seed)

    def cells(self, space: str | None = None, evaluated: bool = False) -> Iterator[Cell]:
        """All searches, of one space if it is named, those evaluated only if asked for."""
        for experiment in self.config.experiments:
            if space in (None, experiment.space):
                for method in experiment.methods + ([] if evaluated else experiment.search_only):
                    for seed in self.config.seeds:
                        yield Cell(experiment, method, seed)

    def evaluation(self, space: str) -> Literal["lookup", "retrain"]:
        """How the cells of a space are evaluated: looked up where there is a table of the benchmark, else trained."""
        return "lookup" if space == "nas_bench_201" and self.config.nas_bench_201_table else "retrain"

    def experiment(self, space: str, dataset: str) -> Experiment:
        """The experiment on a space and a data set."""
        return next(e for e in self.config.experiments if (e.space, e.dataset) == (space, dataset))

    def dataset(self, name: str) -> Dataset:
        """A data set of this configuration, resolved."""
        return _resolve(name, self.config.model_dump_json())

    def run(self, step: str, space: str = "", dataset: str = "", method: str = "", seed: str | int = 0) -> str:
        """The resolved JSON of one step.

        Args:
            step: "data", "search", "decode", "retrain" or "lookup".
            space: name of the space, as in the folder of the run.
            dataset: name of the data set.
            method: name of the method.
            seed: the seed.
        """
        return self._run(step, space, dataset, method, int(seed)).model_dump_json()

    def _run(self, step: str, space: str, dataset: str, method: str, seed: int) -> Strict:
        config = self.config
        if step == "data":
            return DataRun(dataset=self.dataset(dataset))
        folder, experiment = self.folder(space, dataset, method, seed), self.experiment(space, dataset)
        if step == "search":
            return SearchRun(
                space=space,
                dataset=self.dataset(dataset),
                method=config.methods[method],
                seed=seed,
                device=config.device,
                threads=config.threads,
                search=experiment.search,
            )
        if step == "decode":
            return DecodeRun(space=space, method=config.methods[method], dump=str(folder / "search/arch.npz"))
        genotype = str(folder / "decode/genotype.json")
        if step == "lookup":
            assert config.nas_bench_201_table is not None
            history = str(folder / "search/history.csv")
            return LookupRun(genotype=genotype, history=history, table=config.nas_bench_201_table)
        assert experiment.retrain is not None  # `midas.check` has seen to it
        return RetrainRun(
            genotype=genotype,
            dataset=self.dataset(dataset),
            seed=seed,
            device=config.device,
            threads=config.threads,
            retrain=experiment.retrain,
        )

    def present(self, number: int | None = None) -> str:
        """The JSON of one table or figure, or of the statistics."""
        return PresentRun(number=number, config=self.config).model_dump_json()

    def tables(self) -> list[int]:
        """Numbers of the tables that this configuration has experiments for."""
        spaces = {experiment.space for experiment in self.config.experiments}
        return [number for number, space in ((1, "nas_bench_201"), (2, "darts")) if space in spaces]

    def figures(self) -> list[int]:
        """Numbers of the figures that this configuration has experiments for."""
        numbers = [1, 2, 3, 4, 5] if self.config.analysis else []
        numbers += [number for number in (6, 7) if self.shown_cell(number)]
        return numbers + ([12] if 1 in self.tables() else [])

    def shown_cell(self, number: int) -> Cell | None:
        """The search whose cell figure 6 or 7 shows; None where there is none.

        It is the first attention method and the first seed on the first (6) or second (7) data set of the DARTS space:
        neither is chosen by a result.
        """
        attending = [
            cell
            for cell in self.cells("darts", evaluated=True)
            if self.config.methods[cell.method].weights == "attention"
        ]
        firsts = {cell.experiment.dataset: cell for cell in reversed(attending)}
        datasets = list(dict.fromkeys(cell.experiment.dataset for cell in attending))
        return firsts[datasets[number - 6]] if number - 6 < len(datasets) else None


@cache
def _resolve(name: str, config_json: str) -> Dataset:
    # cached: an npz data set is read to learn its size
    config = Config.model_validate_json(config_json)
    return resolve(name, config.datasets, config.data_root, config.cifar10_split)
