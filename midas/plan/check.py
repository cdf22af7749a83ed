"""Whether a configuration can be run: what its keys mean together, checked before any job starts and all at once."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midas.config.keys import Analysis, Config, ConfigError, Experiment, parse
from midas.config.settings import Cost, Method, Transfer
from midas.files.yaml_files import parse_yaml, read_yaml
from midas.images.datasets import IMAGE_FOLDERS, KNOWN, Dataset, class_names
from midas.plan.check_images import (
    TRANSFER_SHRINK,
    analysis_problems,
    image_problems,
    read_cifar10_split,
    transfer_problems,
)
from midas.plan.claims import read_claims
from midas.plan.interrupted import elsewhere
from midas.plan.plan import Cell, Plan
from midas.spaces import SPACES, Space
from midas.spaces.benchmark import read_table

IMAGENET_SIDE = 224


def read_config(path: Path, changes: list[str]) -> dict[str, Any]:
    """A configuration file with some of its top keys replaced by ``key=value``, the value in YAML.

    Raises:
        ValueError: the file can't be read, isn't YAML or has a key twice, or a change isn't of that form.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: not a configuration; it must be a mapping of keys to values")
    values: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not (key and sign):
            raise ValueError(f"{change!r} is not allowed; key=value")
        if key in values:
            raise ValueError(f"{change!r} is not allowed; {key} was given before, each key once")
        values[key] = parse_yaml(value, change)
    return raw | values


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
    wrong = {problem.partition(":")[0] for problem in problems}  # of their defaults there is nothing to say
    problems += [problem for problem in _problems(Plan(config)) if problem.partition(":")[0] not in wrong]
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
    names = [(e.space, e.dataset) for e in config.experiments]
    for index, experiment in enumerate(config.experiments):
        key = f"experiments.{index}"
        if names.index(names[index]) < index:
            yield f"{key}: space {experiment.space} on {experiment.dataset} appears twice; each once"
        yield from _experiment_problems(plan, experiment, key)
    if config.analysis is not None:
        yield from _analysis_problems(plan, config.analysis)
    yield from elsewhere(plan)


def _experiment_problems(plan: Plan, experiment: Experiment, key: str) -> Iterator[str]:
    yield from _name_problems(plan, experiment, key)
    space = SPACES.get(experiment.space)
    if space is None:
        yield f"{key}.space: {experiment.space!r} does not exist; allowed: {', '.join(SPACES)}"
        return
    if experiment.methods and plan.evaluation(space.name) == "retrain" and experiment.retrain is None:
        yield f"{key}.retrain: missing; cells of {space.name} on {experiment.dataset} must be trained (no table is named)"
    yield from _cells_problems(space, experiment, key)
    if experiment.transfer:
        yield from _transfer_problems(plan, space, experiment, experiment.transfer, f"{key}.transfer")
    if all(_done(plan, cell) for cell in plan.cells() if cell.experiment == experiment):
        return  # tables and figures alone can be redrawn where the data are not
    try:
        dataset = plan.dataset(experiment.dataset)
    except ValueError as error:
        yield f"{key}.dataset: {error}"
        return
    if dataset.kind in ("imagenet", "digit_photos"):
        yield f"{key}.dataset: {experiment.dataset!r} is not allowed; its images are read one by one, for a transfer alone"
        return
    yield from image_problems(plan, space, experiment, dataset, key)
    for method in dict.fromkeys(experiment.methods + experiment.ablation):
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
    if experiment.cost:
        yield from _cost_problems(plan, space, experiment, dataset, experiment.cost, f"{key}.cost")


def _name_problems(plan: Plan, experiment: Experiment, key: str) -> Iterator[str]:
    """Methods that don't exist, are named twice in one list, or none at all."""
    if not experiment.methods + experiment.ablation:
        yield f"{key}.methods: missing; at least one method, or one of ablation"
    lists = {"methods": experiment.methods, "ablation": experiment.ablation}
    if experiment.transfer:
        lists["transfer.methods"] = experiment.transfer.methods
    if experiment.cost:
        lists["cost.methods"] = experiment.cost.methods
        lists["cost.baseline"] = [experiment.cost.baseline]
    for name, methods in lists.items():
        for method in sorted(set(methods) - plan.config.methods.keys()):
            yield f"{key}.{name}: method {method!r} does not exist; allowed: {', '.join(plan.config.methods)}"
        for method in sorted({m for m in methods if methods.count(m) > 1}):
            yield f"{key}.{name}: method {method!r} is named twice; each once"


def _transfer_problems(plan: Plan, space: Space, experiment: Experiment, transfer: Transfer, key: str) -> Iterator[str]:
    if space.family != "darts":
        yield f"{key}: not allowed in {space.name}, whose cells have no ImageNet network; allowed: the DARTS spaces"
    for method in transfer.methods:
        if method in plan.config.methods and method not in experiment.methods:
            yield f"{key}.methods: {method!r} is no evaluated method of that experiment; allowed: {', '.join(experiment.methods)}"
    for seed in sorted(set(transfer.seeds or []) - set(plan.config.seeds)):
        yield f"{key}.seeds: {seed} is not allowed; allowed: {', '.join(map(str, plan.config.seeds))}"
    if transfer.seeds and len(set(transfer.seeds)) < len(transfer.seeds):
        yield f"{key}.seeds: {transfer.seeds} is not allowed; each seed once"
    if transfer.cells < space.min_cells:
        yield f"{key}.cells: {transfer.cells} is not allowed; {space.name} needs at least {space.min_cells}"
    if transfer.auxiliary > 0 and transfer.image_size != IMAGENET_SIDE:
        yield (
            f"{key}.auxiliary: {transfer.auxiliary} is not allowed at image_size {transfer.image_size}; the auxiliary head "
            f"is defined for {IMAGENET_SIDE}, set 0"
        )
    if transfer.image_size % TRANSFER_SHRINK:
        yield f"{key}.image_size: {transfer.image_size} is not allowed; a multiple of {TRANSFER_SHRINK}"
    if transfer.batch_size % transfer.gpus:
        yield f"{key}.batch_size: {transfer.batch_size} is not allowed; a multiple of gpus ({transfer.gpus})"
    if transfer.warmup_epochs >= transfer.epochs:
        yield f"{key}.warmup_epochs: {transfer.warmup_epochs} is not allowed; fewer than epochs ({transfer.epochs})"
    if (transfer.mixup or transfer.cutmix) and transfer.batch_size // transfer.gpus % 2:
        yield f"{key}.batch_size: {transfer.batch_size} is not allowed; mixup and cutmix need an even one on each GPU"
    if plan.config.device == "cpu" and transfer.channels_last and transfer.channels < 16 and transfer.image_size >= 192:
        yield (
            f"{key}.channels_last: true is not allowed on a CPU with fewer than 16 channels at image_size "
            f"{transfer.image_size}, where oneDNN 3.13 crashes; set false"
        )
    transfers = [cell for cell in plan.transfers() if cell.experiment == experiment]
    if all((plan.cell_folder(cell) / "transfer/metrics.json").exists() for cell in transfers):
        return  # tables alone can be redrawn where the data are not
    try:
        dataset = plan.dataset(transfer.dataset)
    except ValueError as error:
        yield f"{key}.dataset: {error}"
        return
    if dataset.kind not in IMAGE_FOLDERS:
        yield f"{key}.dataset: {transfer.dataset!r} is not allowed; allowed: digit_photos, imagenet, or a data set of kind folder"
        return
    yield from transfer_problems(dataset, transfer, key)


def _cost_problems(
    plan: Plan, space: Space, experiment: Experiment, dataset: Dataset, cost: Cost, key: str
) -> Iterator[str]:
    known = plan.config.methods
    names = [name for name in dict.fromkeys([cost.baseline, *cost.methods]) if name in known]
    for name in names:
        if known[name].weights == "random":
            yield f"{key}.methods: {name!r} is not allowed; a random cell is not searched"
        elif name not in experiment.methods + experiment.ablation:
            yield from _method_problems(space, experiment, dataset, known[name], f"methods.{name}", key)
    if cost.baseline in cost.methods:
        yield f"{key}.methods: {cost.baseline!r} is the baseline; name the others alone"
    first = known.get(cost.methods[0])
    if first is None or first.weights == "random":
        return
    for side in cost.resolutions:
        for problem in _map_problems(space, experiment, (side, side), first):
            yield f"{key}.resolutions: {side} is not allowed; {problem}"
    if cost.patch_sizes and first.weights != "attention":
        yield f"{key}.patch_sizes: not allowed; the first method, {cost.methods[0]!r}, has no patches"
        return
    for size in cost.patch_sizes:
        for problem in _map_problems(space, experiment, dataset.image, first.model_copy(update={"patch_size": size})):
            yield f"{key}.patch_sizes: {problem}"


def _cells_problems(space: Space, experiment: Experiment, key: str) -> Iterator[str]:
    for name, settings in (("search", experiment.search), ("retrain", experiment.retrain)):
        if settings is not None and settings.cells < space.min_cells:
            yield f"{key}.{name}.cells: {settings.cells} is not allowed; {space.name} needs at least {space.min_cells}"


def _method_problems(
    space: Space, experiment: Experiment, dataset: Dataset, method: Method, method_key: str, key: str
) -> Iterator[str]:
    if method.weights == "random":
        return
    shrink = max(layer.shrink for layer in space.skeleton(experiment.search.cells))
    if any(side % shrink for side in dataset.image):
        return  # said of the experiment
    warmup, epochs = method.warmup_epochs, experiment.search.epochs
    if warmup >= epochs:
        yield f"{method_key}.warmup_epochs: {warmup} is not allowed; fewer than the epochs of {key}.search ({epochs})"
    if method.distribution == "pairs" and space.kept_edges != 2:
        yield f"{method_key}.distribution: 'pairs' is not allowed in {space.name}, which keeps all edges; allowed: edge, node"
    for problem in _map_problems(space, experiment, dataset.image, method, f" on {dataset.name}"):
        yield f"{method_key}.patch_size: {problem}"


def _map_problems(
    space: Space, experiment: Experiment, image: tuple[int, int], method: Method, where: str = ""
) -> Iterator[str]:
    """Whether the maps of a supernet can be cut into a method's patches."""
    layers = space.skeleton(experiment.search.cells)
    shrink = max(layer.shrink for layer in layers)
    if any(side % shrink for side in image):
        yield f"images of {image[0]}x{image[1]} can't be halved to 1/{shrink}"
        return
    if method.weights != "attention" or method.patch_size is None:
        return
    sides = sorted({side // layer.shrink for layer in layers for side in image}, reverse=True)
    wrong = [side for side in sides if side > method.patch_size and side % method.patch_size]
    if wrong:
        allowed = [ps for ps in range(1, sides[0] + 1) if all(side <= ps or side % ps == 0 for side in sides)]
        yield (
            f"{method.patch_size} does not divide the {wrong[0]} pixels of a map of {space.name}{where}; "
            f"allowed: {', '.join(map(str, allowed))} or null"
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
            yield f"analysis.groups: class {name!r} does not exist; allowed: {', '.join(classes)}"
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


def _done(plan: Plan, cell: Cell) -> bool:
    """Whether everything that needs a cell's data exists."""
    steps = [] if plan.is_random(cell.method) else ["search"]
    if cell.method in cell.experiment.methods and plan.evaluation(cell.experiment.space) == "retrain":
        steps.append("retrain")
    return all((plan.cell_folder(cell) / step / "metrics.json").exists() for step in steps)
