"""From one configuration to resolved runs: what is searched, decoded and evaluated, with what settings, in which folder.

The workflow reads a `Plan`; each step gets one `...Run` as JSON and nothing else. Nothing here needs torch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from midas.benchmark import read_header
from midas.config import Analysis, Config, ConfigError, Experiment, Method, Retrain, Search, Strict, parse
from midas.datasets import KNOWN, Dataset, read_split, resolve
from midas.spaces import SPACES, Space

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
        assert experiment.retrain is not None  # checked in `load`
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


def load(raw: dict[str, Any]) -> Plan:
    """Check a configuration, its keys and what they mean together, and plan its runs.

    Raises:
        ConfigError: with one line for each error, all of them at once.
    """
    problems: list[str] = []
    try:
        config = parse(raw)
    except ConfigError as error:
        problems = error.problems
        repaired = _without_errors(raw)
        if repaired is None:
            raise
        config = repaired
    problems += list(_problems(Plan(config)))
    if problems:
        raise ConfigError(problems)
    return Plan(config)


def _without_errors(raw: dict[str, Any]) -> Config | None:
    """The configuration less its wrong keys, so that the other checks can still speak; None if required keys are wrong."""
    if not isinstance(raw, dict):
        return None
    raw = copy.deepcopy(raw)
    try:
        Config.model_validate(raw)
    except ValidationError as error:
        for problem in error.errors():
            *path, last = (part for part in problem["loc"] if part != "[key]")
            node: Any = raw
            try:
                for part in path:
                    node = node[part]
                if isinstance(node, dict):
                    node.pop(last, None)
            except (KeyError, IndexError, TypeError):
                return None
    try:
        return Config.model_validate(raw)
    except ValidationError:
        return None


def _problems(plan: Plan) -> Iterator[str]:
    """What is wrong with a configuration whose keys are all right by themselves."""
    config = plan.config
    if len(set(config.seeds)) < len(config.seeds):
        yield f"seeds: {config.seeds} is not allowed; each seed once"
    for name in config.datasets.keys() & KNOWN.keys():
        yield f"datasets.{name}: the name is taken by an embedded or published data set; choose another"
    if config.data_root is not None and not os.path.isdir(config.data_root):
        yield f"data_root: {config.data_root!r} is not an existing folder"
    yield from _table_problems(config.nas_bench_201_table)
    yield from _split_problems(config.cifar10_split)
    names = [(e.space, e.dataset) for e in config.experiments]
    for index, experiment in enumerate(config.experiments):
        key = f"experiments.{index}"
        if names.index(names[index]) < index:
            yield f"{key}: space {experiment.space} on {experiment.dataset} appears twice; each once"
        yield from _experiment_problems(plan, experiment, key)
    if config.analysis is not None:
        yield from _analysis_problems(plan, config.analysis)


def _experiment_problems(plan: Plan, experiment: Experiment, key: str) -> Iterator[str]:
    methods = experiment.methods + experiment.search_only
    for method in sorted(set(methods) - plan.config.methods.keys()):
        yield f"{key}.methods: method {method!r} does not exist; allowed: {', '.join(plan.config.methods)}"
    for method in sorted({m for m in methods if methods.count(m) > 1}):
        yield f"{key}.methods: method {method!r} is named twice in methods and search_only; each once"
    space = SPACES.get(experiment.space)
    if space is None:
        yield f"{key}.space: {experiment.space!r} does not exist; allowed: {', '.join(SPACES)}"
        return
    evaluation = plan.evaluation(space.name)
    if evaluation == "retrain" and experiment.retrain is None:
        yield f"{key}.retrain: missing; cells of {space.name} on {experiment.dataset} must be trained (no table is named)"
    yield from _cells_problems(space, experiment, key)
    if all(_done(plan, cell) for cell in plan.cells() if cell.experiment == experiment):
        return  # tables and figures alone can be redrawn where the data are not
    try:
        dataset = plan.dataset(experiment.dataset)
    except ValueError as error:
        yield f"{key}.dataset: {error}"
        return
    for method in methods:
        if method in plan.config.methods:
            yield from _method_problems(
                space, experiment, dataset, plan.config.methods[method], f"methods.{method}", key
            )
    retrain = experiment.retrain
    if retrain and space.family == "darts" and retrain.auxiliary > 0 and dataset.image != (32, 32):
        yield (
            f"{key}.retrain.auxiliary: {retrain.auxiliary} is not allowed on {dataset.image[0]}x{dataset.image[1]} images; "
            "the auxiliary head is defined for 32x32, set 0"
        )


def _cells_problems(space: Space, experiment: Experiment, key: str) -> Iterator[str]:
    for name, settings in (("search", experiment.search), ("retrain", experiment.retrain)):
        if settings is not None and settings.cells < space.min_cells:
            yield f"{key}.{name}.cells: {settings.cells} is not allowed; {space.name} needs at least {space.min_cells}"


def _method_problems(
    space: Space, experiment: Experiment, dataset: Dataset, method: Method, method_key: str, key: str
) -> Iterator[str]:
    layers = space.skeleton(experiment.search.cells)
    shrink = max(layer.shrink for layer in layers)
    if any(side % shrink for side in dataset.image):
        yield f"{key}.dataset: images of {dataset.image[0]}x{dataset.image[1]} can't be halved to 1/{shrink}"
        return
    if method.distribution == "pairs" and space.kept_edges != 2:
        yield f"{method_key}.distribution: 'pairs' is not allowed in {space.name}, which keeps all edges; allowed: edge, node"
    if method.weights == "static" or method.patch_size is None:
        return
    sides = sorted({side // layer.shrink for layer in layers for side in dataset.image}, reverse=True)
    wrong = [side for side in sides if side > method.patch_size and side % method.patch_size]
    if wrong:
        allowed = [ps for ps in range(1, sides[0] + 1) if all(side <= ps or side % ps == 0 for side in sides)]
        yield (
            f"{method_key}.patch_size: {method.patch_size} does not divide the {wrong[0]} pixels of a map of "
            f"{space.name} on {dataset.name}; allowed: {', '.join(map(str, allowed))} or null"
        )


def _analysis_problems(plan: Plan, analysis: Analysis) -> Iterator[str]:
    experiment = next(
        (e for e in plan.config.experiments if (e.space, e.dataset) == (analysis.space, analysis.dataset)), None
    )
    if experiment is None:
        known_ones = ", ".join(f"{e.space} on {e.dataset}" for e in plan.config.experiments)
        yield f"analysis: {analysis.space} on {analysis.dataset} is no experiment; allowed: {known_ones}"
        return
    known = plan.config.methods
    searched = experiment.methods + experiment.search_only
    allowed = [name for name in searched if name in known and known[name].weights == "attention"]
    for name in dict.fromkeys([analysis.method, *analysis.compare]):
        if name not in allowed:
            yield f"analysis: method {name!r} is no attention method of that experiment; allowed: {', '.join(allowed)}"


def _table_problems(table: str | None) -> Iterator[str]:
    if table is not None:
        try:
            read_header(Path(table))
        except ValueError as error:
            yield f"nas_bench_201_table: {error}"


def _split_problems(split: str | None) -> Iterator[str]:
    if split is not None:
        try:
            read_split(Path(split))
        except ValueError as error:
            yield f"cifar10_split: {error}"


def _done(plan: Plan, cell: Cell) -> bool:
    """Whether everything that needs a cell's data exists."""
    steps = ["search"]
    if cell.method in cell.experiment.methods and plan.evaluation(cell.experiment.space) == "retrain":
        steps.append("retrain")
    return all((plan.cell_folder(cell) / step / "metrics.json").exists() for step in steps)
