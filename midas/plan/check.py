"""Whether a configuration can be run: what its keys mean together, checked before any job starts and all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from midas.config.keys import Analysis, ConfigError, parse
from midas.config.reading import without_errors
from midas.files.naming import among
from midas.images.datasets import KNOWN, Dataset, class_names
from midas.plan.check_experiment import experiment_problems
from midas.plan.check_images import analysis_problems, read_cifar10_split
from midas.plan.claims import read_claims
from midas.plan.further.listed import FURTHER
from midas.plan.interrupted import elsewhere
from midas.plan.plan import Plan
from midas.spaces.benchmark import read_table


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
        repaired = without_errors(raw)
        if repaired is None:
            raise
        config = repaired
    wrong = {problem.partition(":")[0] for problem in problems}  # of their defaults there is nothing to say
    found = dict.fromkeys(_problems(Plan(config)))  # a method of two experiments is looked at twice
    problems += [problem for problem in found if problem.partition(":")[0] not in wrong]
    if problems:
        raise ConfigError(problems)
    return Plan(config)


def _problems(plan: Plan) -> Iterator[str]:
    """What is wrong with a configuration whose keys are all right by themselves."""
    config = plan.config
    if len(set(config.seeds)) < len(config.seeds):
        yield f"seeds: {config.seeds} is not allowed; each seed once"
    for name in config.datasets.keys() & KNOWN.keys():
        yield f"datasets.{name}: the name is taken by an embedded or published data set; choose another"
    if config.data_root is not None and not os.path.isdir(config.data_root):
        yield f"data_root: {config.data_root!r} is not an existing folder"
    for key in ("results_dir", "figures_dir"):
        if os.path.isfile(folder := getattr(config, key)):
            yield f"{key}: {folder!r} is not allowed; it is a file, not a folder"
        if set(folder) & set("{}"):
            yield f"{key}: {folder!r} is not allowed; no braces, which Snakemake takes for wildcards"
    looked_up = [plan.cell_folder(cell) / "lookup/metrics.json" for cell in plan.cells("nas_bench_201", evaluated=True)]
    missing = config.nas_bench_201_table is not None and not os.path.exists(config.nas_bench_201_table)
    if not (missing and looked_up and all(path.exists() for path in looked_up)):  # else results are redrawn without it
        cells = config.nas_bench_201_cells
        yield from _file_problems(
            "nas_bench_201_table", config.nas_bench_201_table, lambda path: read_table(path, cells)
        )
    yield from _file_problems("cifar10_split", config.cifar10_split, read_cifar10_split)
    yield from _file_problems("claims", config.claims, read_claims)
    if not config.experiments and not any(further.ALONE and getattr(config, further.KEY) for further in FURTHER):
        alone = [further.KEY for further in FURTHER if further.ALONE]
        yield f"experiments: [] is not allowed; at least one, or one of the keys {', '.join(alone)}"
        return
    names = [(e.space, e.dataset) for e in config.experiments]
    for index, experiment in enumerate(config.experiments):
        key = f"experiments.{index}"
        if names.index(names[index]) < index:
            yield f"{key}: space {experiment.space} on {experiment.dataset} appears twice; each once"
        yield from experiment_problems(plan, experiment, key)
    if config.analysis is not None:
        yield from _analysis_problems(plan, config.analysis)
    for further in FURTHER:
        yield from further.problems(plan)
    yield from elsewhere(plan)


def _analysis_problems(plan: Plan, analysis: Analysis) -> Iterator[str]:
    experiment = next(
        (e for e in plan.config.experiments if (e.space, e.dataset) == (analysis.space, analysis.dataset)), None
    )
    if experiment is None:
        known_ones = ", ".join(f"{e.space} on {e.dataset}" for e in plan.config.experiments)
        yield f"analysis: {analysis.space} on {analysis.dataset} is no experiment; allowed: {known_ones}"
        return
    known = plan.config.methods
    searched = dict.fromkeys(experiment.methods + experiment.ablation)
    allowed = [name for name in searched if name in known and known[name].weights == "attention"]
    for name in dict.fromkeys([analysis.method, *analysis.compare]):
        if name not in allowed:
            yield f"analysis: method {name!r} is no attention method of that experiment; allowed: {', '.join(allowed)}"
    try:
        dataset = plan.dataset(analysis.dataset)
    except (ValueError, AssertionError):
        return  # said elsewhere
    yield from analysis_problems(dataset, analysis)
    yield from _group_problems(dataset, analysis)


def _group_problems(dataset: Dataset, analysis: Analysis) -> Iterator[str]:
    """Groups must be at least two, of different classes of the data set, two or more in each."""
    classes = class_names(dataset)
    grouped = [name for members in analysis.groups.values() for name in members]
    for name in dict.fromkeys(grouped):
        if name not in classes:
            yield f"analysis.groups: class {name!r} does not exist{among(name, classes)}"
        if grouped.count(name) > 1:
            yield f"analysis.groups: class {name!r} is named twice; each once"
    if analysis.groups and (len(analysis.groups) < 2 or min(map(len, analysis.groups.values())) < 2):
        yield "analysis.groups: at least two groups of at least two classes are needed"


def _file_problems(key: str, path: str | None, read: Callable[[Path], object]) -> Iterator[str]:
    if path is not None:
        try:
            read(Path(path))
        except ValueError as error:
            yield from (f"{key}: {line}" for line in str(error).splitlines())
