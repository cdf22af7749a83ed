"""From one configuration to resolved runs: what is searched, decoded and evaluated, with what settings, in which folder.

The workflow reads a `Plan`; each step gets one run of `midas.plan.runs` as JSON and nothing else. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from midas.config.keys import Config, ConfigError, Experiment
from midas.config.settings import Strict, Transfer
from midas.images.contents import of_dataset, of_file
from midas.images.datasets import Dataset, bytes_in_memory, resolve
from midas.plan.runs import (
    CostRun,
    DataRun,
    DecodeRun,
    LookupRun,
    OfContents,
    PresentRun,
    RetrainRun,
    SearchRun,
    TransferRun,
    decisive,
)

RUNS: dict[str, type[OfContents]] = {
    "data": DataRun,
    "search": SearchRun,
    "lookup": LookupRun,
    "retrain": RetrainRun,
    "transfer": TransferRun,
    "cost": CostRun,
}
"""What steps are told that read files of the user."""
ROBUST_DARTS = ("s1", "s2", "s3", "s4")
CELL_FIGURES = {6: ("darts", 0), 7: ("darts", 1), **{8 + i: (space, 0) for i, space in enumerate(ROBUST_DARTS)}}
"""Figure -> space and place among that space's data sets of the cell that it shows."""


@dataclass(frozen=True)
class Cell:
    """One search: an experiment, one of its methods, one seed."""

    experiment: Experiment
    method: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """A checked configuration with everything that follows from it.

    Attributes:
        config: the configuration.
        remembers: whether a data set whose files are gone is what it was when the step data saw it.
    """

    config: Config
    remembers: bool = False

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

    def cells(self, space: str | None = None, evaluated: bool = False, searched: bool = False) -> Iterator[Cell]:
        """All cells, found or random: of one space if it is named, those evaluated only, those searched only if asked for."""
        for experiment in self.config.experiments:
            if space in (None, experiment.space):
                for method in self.evaluated(experiment) if evaluated else _all_methods(experiment):
                    if not (searched and self.is_random(method)):
                        for seed in self.config.seeds:
                            yield Cell(experiment, method, seed)

    def is_random(self, method: str) -> bool:
        """Whether a method draws its cells and searches nothing."""
        return method in self.config.methods and self.config.methods[method].weights == "random"

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

    def dataset(self, name: str) -> Dataset:
        """A data set of this configuration, resolved.

        Raises:
            ValueError: its files are missing or can't be used.
        """
        try:
            return _resolve(name, self.config.model_dump_json())
        except ValueError:
            told = self._told("data", dataset=name) if self.remembers else None
            if not isinstance(told, DataRun):
                raise
            return told.dataset

    def transfer_dataset(self, transfer: Transfer) -> Dataset:
        """The data set of a transfer, its images of the size that the transfer asks for."""
        found = self.dataset(transfer.dataset)
        path = str(self.root / "data/digit_photos/images") if found.kind == "digit_photos" else found.path
        return found.model_copy(update={"image": (transfer.image_size,) * 2, "path": path})

    def _data_run(self, name: str) -> DataRun:
        for experiment in self.config.experiments:
            if experiment.dataset == name:
                return DataRun(dataset=self.dataset(name))
        transfers = (e.transfer for e in self.config.experiments if e.transfer and e.transfer.dataset == name)
        dataset = self.transfer_dataset(next(transfers))
        return DataRun(dataset=dataset, in_memory=False, opened=self.config.open_images)

    def run(self, step: str, space: str = "", dataset: str = "", method: str = "", seed: str | int = 0) -> str:
        """The resolved JSON of one step, see `resolved`."""
        return self.resolved(step, space, dataset, method, seed).model_dump_json()

    def resolved(self, step: str, space: str = "", dataset: str = "", method: str = "", seed: str | int = 0) -> Strict:
        """What one step is told.

        Args:
            step: "data", "search", "decode", "lookup", "retrain", "transfer" or "cost".
            space: name of the space, as in the folder of the run.
            dataset: name of the data set.
            method: name of the method.
            seed: the seed.
        """
        if step == "data":
            return self._data_run(dataset)
        experiment = self.experiment(space, dataset)
        if step == "cost":
            return self._cost_run(experiment)
        makers = {
            "search": self._search_run,
            "decode": self._decode_run,
            "lookup": self._lookup_run,
            "retrain": self._retrain_run,
            "transfer": self._transfer_run,
        }
        return makers[step](Cell(experiment, method, int(seed)))

    def asked(self, step: str, **names: str) -> Strict:
        """What one step is told, with the digest of the user's files; where these are gone, what it was told when it finished.

        So what is finished stays where its data don't.

        Args:
            step: as of `resolved`.
            names: the other arguments of `resolved`.

        Raises:
            ValueError: files are gone or can't be read, and it isn't finished.
        """
        try:
            run = self.resolved(step, **names)
            found = {"contents": self.contents(step, **names)} if isinstance(run, OfContents) else {}
            return run.model_copy(update=found)
        except ValueError:
            finished = self._told(step, **names)
            if finished is None or decisive(replace(self, remembers=True).resolved(step, **names)) != decisive(
                finished
            ):
                raise
            return finished

    def _told(self, step: str, space: str = "", dataset: str = "", method: str = "", seed: str = "0") -> Strict | None:
        """What a step was told that has finished."""
        folder = self.folder(space, dataset, method, int(seed)) / step
        if step in ("data", "cost"):
            folder = self.root / "data" / dataset if step == "data" else self.root / space / dataset / "cost"
        try:
            told = json.loads((folder / "metrics.json").read_text())["config"]
            return RUNS[step].model_validate(told)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def contents(self, step: str, space: str = "", dataset: str = "", **_: str) -> str:
        """Digest of the files of the user that a step reads, wherever they lie; empty if there are none, or not looked at.

        Raises:
            ValueError: they are gone, or can't be read.
        """
        if step == "lookup":
            return of_file(self.config.nas_bench_201_table)
        halves = step in ("search", "cost")  # which alone read index lists
        if step == "transfer":
            transfer = self.experiment(space, dataset).transfer
            assert transfer is not None
            dataset = transfer.dataset
        found = self.dataset(dataset)
        if found.kind == "folder" and not (self.config.open_images or self._data_run(dataset).in_memory):
            return ""  # too many to be looked at
        return _contents(found, self.root / "data" / dataset) + (of_file(found.split) if halves else "")

    def megabytes(self, dataset: str) -> int:
        """Of a data set of the user in memory, 0 where it isn't here; others are small."""
        try:
            return -(-_bytes(self.dataset(dataset)) // 10**6)
        except ValueError:
            return 0

    def _machine(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "device": self.config.device, "threads": self.config.threads}

    def _go_on(self, seed: int) -> dict[str, Any]:
        return self._machine(seed) | {"go_on_elsewhere": self.config.go_on_elsewhere}

    def _search_run(self, cell: Cell) -> SearchRun:
        experiment, method = cell.experiment, self.config.methods[cell.method]
        dataset = self.dataset(experiment.dataset)
        space = experiment.space
        return SearchRun(
            space=space, dataset=dataset, method=method, search=experiment.search, **self._go_on(cell.seed)
        )

    def _decode_run(self, cell: Cell) -> DecodeRun:
        method = self.config.methods[cell.method]
        dump = None if self.is_random(cell.method) else str(self.cell_folder(cell) / "search/arch.npz")
        return DecodeRun(space=cell.experiment.space, method=method, seed=cell.seed, dump=dump)

    def _lookup_run(self, cell: Cell) -> LookupRun:
        assert self.config.nas_bench_201_table is not None
        history = None if self.is_random(cell.method) else str(self.cell_folder(cell) / "search/history.csv")
        return LookupRun(
            genotype=self._genotype(cell),
            history=history,
            table=self.config.nas_bench_201_table,
            cells=self.config.nas_bench_201_cells,
        )

    def _retrain_run(self, cell: Cell) -> RetrainRun:
        retrain = cell.experiment.retrain
        assert retrain is not None  # `midas.plan.check` has seen to it
        dataset = self.dataset(cell.experiment.dataset)
        return RetrainRun(genotype=self._genotype(cell), dataset=dataset, retrain=retrain, **self._go_on(cell.seed))

    def _transfer_run(self, cell: Cell) -> TransferRun:
        transfer = cell.experiment.transfer
        assert transfer is not None
        dataset = self.transfer_dataset(transfer)
        described = str(self.root / "data" / transfer.dataset / "metrics.json")
        machine = self._go_on(cell.seed)
        return TransferRun(
            genotype=self._genotype(cell), dataset=dataset, described=described, transfer=transfer, **machine
        )

    def _cost_run(self, experiment: Experiment) -> CostRun:
        assert experiment.cost is not None
        names = dict.fromkeys([experiment.cost.baseline, *experiment.cost.methods])
        return CostRun(
            space=experiment.space,
            dataset=self.dataset(experiment.dataset),
            methods={name: self.config.methods[name] for name in names},
            search=experiment.search,
            cost=experiment.cost,
            **self._machine(self.config.seeds[0]),
        )

    def _genotype(self, cell: Cell) -> str:
        return str(self.cell_folder(cell) / "decode/genotype.json")

    def present(self, number: int | None = None) -> str:
        """The JSON of one table or figure, or of the statistics."""
        return self.presented(number).model_dump_json()

    def presented(self, number: int | None = None) -> PresentRun:
        """What one table or figure, or the statistics, are told."""
        return PresentRun(number=number, config=self.config)

    def finished(self) -> Plan:
        """This plan with the seeds of which everything is there; its note says which are left out.

        Raises:
            ConfigError: there is no such seed.
        """
        missing: dict[int, Path] = {}
        for cell in self.cells():
            names = ["decode/genotype.json"]
            names += [] if self.is_random(cell.method) else ["search/metrics.json"]
            if cell.method in self.evaluated(cell.experiment):
                names.append(f"{self.evaluation(cell.experiment.space)}/metrics.json")
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
        return Plan(self.config.model_copy(update={"seeds": seeds, "note": note, "experiments": experiments}))

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


def _all_methods(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys([*experiment.methods, *experiment.ablation]))


@cache
def _resolve(name: str, config_json: str) -> Dataset:
    # cached: an npz data set's labels are read to learn its classes
    config = Config.model_validate_json(config_json)
    return resolve(name, config.datasets, config.data_root, config.cifar10_split)


_contents, _bytes = cache(of_dataset), cache(bytes_in_memory)  # one call of Snakemake asks for each cell
