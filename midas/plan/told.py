"""What each step is told: its run, resolved from the configuration, with the data that it reads. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from midas.config.keys import Config, Experiment
from midas.config.kinds import Strict
from midas.config.settings import Transfer
from midas.images.contents import of_dataset, of_file
from midas.images.datasets import Dataset, bytes_in_memory, resolve
from midas.plan.cells import Cell, Cells
from midas.plan.runs import (
    AccuraciesRun,
    CostRun,
    DataRun,
    DecodeRun,
    LookupRun,
    OfContents,
    RetrainRun,
    ScoreRun,
    SearchRun,
    TransferRun,
    decisive,
)
from midas.spaces import SPACES
from midas.spaces.given import known_cell

RUNS: dict[str, type[OfContents]] = {
    "data": DataRun,
    "search": SearchRun,
    "lookup": LookupRun,
    "retrain": RetrainRun,
    "transfer": TransferRun,
    "cost": CostRun,
    "score": ScoreRun,
    "accuracies": AccuraciesRun,
}
"""What steps are told that read files of the user."""


@dataclass(frozen=True)
class Told(Cells):
    """What the steps are told that make the cells of a configuration.

    Attributes:
        remembers: whether a data set whose files are gone is what it was when the step data saw it.
    """

    remembers: bool = False

    def dataset(self, name: str) -> Dataset:
        """A data set of this configuration, resolved.

        Raises:
            ValueError: its files are missing or can't be used.
        """
        try:
            return _resolve(name, self.config.model_dump_json())
        except ValueError:
            told = self.finished_run("data", dataset=name) if self.remembers else None
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
        if self.config.proxies and self.config.proxies.dataset == name:
            return DataRun(dataset=self.dataset(name))
        transfers = (e.transfer for e in self.config.experiments if e.transfer and e.transfer.dataset == name)
        dataset = self.transfer_dataset(next(transfers))
        return DataRun(dataset=dataset, in_memory=False, opened=self.config.open_images)

    def run(self, step: str, *names: str | int, **others: str | int) -> str:
        """The resolved JSON of one step, see `resolved`."""
        return self.resolved(step, *names, **others).model_dump_json()  # type: ignore[arg-type]

    def resolved(
        self,
        step: str,
        space: str = "",
        dataset: str = "",
        method: str = "",
        seed: str | int = 0,
        chunk: str | int = 0,
        setting: str = "",
    ) -> Strict:
        """What one step is told.

        Args:
            step: "data", "search", "decode", "lookup", "retrain", "transfer", "cost", "score" or "accuracies".
            space: name of the space, as in the folder of the run.
            dataset: name of the data set.
            method: name of the method.
            seed: the seed.
            chunk: the part of the sample that is scored, from 0.
            setting: name of a further retraining; of the step retrain alone.
        """
        if step == "data":
            return self._data_run(dataset)
        if step in ("score", "accuracies"):
            return self._score_run(int(chunk)) if step == "score" else self._accuracies_run()
        experiment = self.experiment(space, dataset)
        if step == "cost":
            return self._cost_run(experiment)
        makers: dict[str, Callable[[Cell], Strict]] = {
            "search": self._search_run,
            "decode": self._decode_run,
            "lookup": self._lookup_run,
            "retrain": partial(self._retrain_run, setting=setting),
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
            finished = self.finished_run(step, **names)
            if finished is None or decisive(replace(self, remembers=True).resolved(step, **names)) != decisive(
                finished
            ):
                raise
            return finished

    def finished_run(
        self,
        step: str,
        space: str = "",
        dataset: str = "",
        method: str = "",
        seed: str = "0",
        chunk: str = "0",
        setting: str = "",
    ) -> Strict | None:
        """What a step was told that has finished; None if it has not."""
        folder = self.folder(space, dataset, method, int(seed)) / (f"retrain_also/{setting}" if setting else step)
        if step in ("data", "cost"):
            folder = self.root / "data" / dataset if step == "data" else self.root / space / dataset / "cost"
        if step in ("score", "accuracies"):
            folder = self.chunk_folder(int(chunk)) if step == "score" else self.accuracies_folder
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
        if step == "accuracies":
            robust = self.config.proxies and self.config.proxies.robust
            return of_file(self.config.nas_bench_201_table) + of_file(robust.table if robust else None)
        halves = step in ("search", "cost")  # which alone read index lists
        if step == "transfer":
            transfer = self.experiment(space, dataset).transfer
            assert transfer is not None
            dataset = transfer.dataset
        if step == "score":
            assert self.config.proxies is not None
            dataset = self.config.proxies.dataset
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
        return SearchRun(
            space=experiment.space,
            dataset=self.dataset(experiment.dataset),
            method=method,
            search=experiment.search_by(cell.method),
            **self._go_on(cell.seed),
        )

    def _decode_run(self, cell: Cell) -> DecodeRun:
        method = self.config.methods[cell.method]
        dump = None if self.is_unsearched(cell.method) else str(self.cell_folder(cell) / "search/arch.npz")
        kept = Path(self._genotype(cell))  # the cell itself: a file may change, or go
        given = method.genotype and str(known_cell(method.genotype, SPACES[cell.experiment.space], kept))
        method = method.model_copy(update={"genotype": given})
        return DecodeRun(space=cell.experiment.space, method=method, seed=cell.seed, dump=dump)

    def _lookup_run(self, cell: Cell) -> LookupRun:
        assert self.config.nas_bench_201_table is not None
        history = None if self.is_unsearched(cell.method) else str(self.cell_folder(cell) / "search/history.csv")
        return LookupRun(
            genotype=self._genotype(cell),
            history=history,
            table=self.config.nas_bench_201_table,
            cells=self.config.nas_bench_201_cells,
        )

    def _retrain_run(self, cell: Cell, setting: str = "") -> RetrainRun:
        retrain = cell.experiment.retrainings()[
            setting or cell.experiment.retrain_as
        ]  # `midas.plan.check` has seen to it
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

    def _score_run(self, chunk: int) -> ScoreRun:
        proxies = self.config.proxies
        assert proxies is not None
        # of robust accuracies, and of how many cells there are beside, no score knows
        asked = proxies.model_copy(update={"robust": None, "sample": min(proxies.sample, (chunk + 1) * proxies.chunk)})
        return ScoreRun(dataset=self.dataset(proxies.dataset), proxies=asked, chunk=chunk, threads=self.config.threads)

    def _accuracies_run(self) -> AccuraciesRun:
        config, proxies = self.config, self.config.proxies
        assert proxies is not None
        looked_up = self.evaluation("nas_bench_201") == "lookup"
        found = self.cells("nas_bench_201", evaluated=True) if looked_up else iter(())
        return AccuraciesRun(
            sample=proxies.sample,
            seed=proxies.seed,
            genotypes=[self._genotype(cell) for cell in found],
            table=config.nas_bench_201_table,
            cells=config.nas_bench_201_cells,
            robust=proxies.robust,
        )

    def _genotype(self, cell: Cell) -> str:
        return str(self.cell_folder(cell) / "decode/genotype.json")


@cache
def _resolve(name: str, config_json: str) -> Dataset:
    # cached: an npz data set's labels are read to learn its classes
    config = Config.model_validate_json(config_json)
    return resolve(name, config.datasets, config.data_root, config.cifar10_split)


_contents, _bytes = cache(of_dataset), cache(bytes_in_memory)  # one call of Snakemake asks for each cell
