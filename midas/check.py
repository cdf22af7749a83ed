"""Whether a configuration can be run: what its keys mean together, checked before any job starts and all at once."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midas.benchmark import read_header
from midas.config import Analysis, Config, ConfigError, Experiment, Method, parse
from midas.datasets import KNOWN, Dataset, read_split
from midas.plan import Cell, Plan
from midas.spaces import SPACES, Space


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
    yield from _file_problems("nas_bench_201_table", config.nas_bench_201_table, read_header)
    yield from _file_problems("cifar10_split", config.cifar10_split, read_split)
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


def _file_problems(key: str, path: str | None, read: Callable[[Path], object]) -> Iterator[str]:
    if path is not None:
        try:
            read(Path(path))
        except ValueError as error:
            yield f"{key}: {error}"


def _done(plan: Plan, cell: Cell) -> bool:
    """Whether everything that needs a cell's data exists."""
    steps = ["search"]
    if cell.method in cell.experiment.methods and plan.evaluation(cell.experiment.space) == "retrain":
        steps.append("retrain")
    return all((plan.cell_folder(cell) / step / "metrics.json").exists() for step in steps)
