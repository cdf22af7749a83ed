"""Whether one experiment of a configuration can be run: its methods, transfer and cost; part of `midas.plan.check`."""

from __future__ import annotations

from collections.abc import Iterator

from midas.config.keys import Experiment
from midas.config.method import ATTENTION, UNSEARCHED, Method
from midas.config.settings import Cost, Retrain, Search, Transfer
from midas.files.naming import among
from midas.images.datasets import IMAGE_FOLDERS, Dataset
from midas.plan.cells import Cell
from midas.plan.check_images import TRANSFER_SHRINK, image_problems, transfer_problems
from midas.plan.check_parts import part_problems
from midas.plan.plan import Plan
from midas.spaces import SPACES, Space
from midas.spaces.given import given_cell

IMAGENET_SIDE = 224
AUXILIARY_SHRINK = 4


def experiment_problems(plan: Plan, experiment: Experiment, key: str) -> Iterator[str]:
    """What is wrong with an experiment."""
    yield from _name_problems(plan, experiment, key)
    space = SPACES.get(experiment.space)
    if space is None:
        yield f"{key}.space: {experiment.space!r} does not exist{among(experiment.space, SPACES)}"
        return
    if experiment.methods and plan.evaluation(space.name) == "retrain" and experiment.retrain is None:
        yield f"{key}.retrain: missing; cells of {space.name} on {experiment.dataset} must be trained (no table is named)"
    yield from _cells_problems(space, experiment, key)
    yield from _retraining_problems(plan, experiment, key)
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
            own, at = _by(experiment, method), f"{key}.search_of.{method}" if method in experiment.search_of else key
            yield from _method_problems(space, own, dataset, plan.config.methods[method], f"methods.{method}", at)
    for name, retrain in experiment.retrainings().items() if space.family == "darts" else ():
        yield from _auxiliary_problems(space, retrain, dataset, f"{key}.{_at(experiment, name)}.auxiliary")
    if experiment.cost:
        yield from _cost_problems(plan, space, experiment, dataset, experiment.cost, f"{key}.cost")


def _by(experiment: Experiment, method: str) -> Experiment:
    """The experiment as a method's searches have it."""
    return experiment.model_copy(update={"search": experiment.search_by(method), "search_of": {}})


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
    searched = [name for name in experiment.methods + experiment.ablation if not plan.is_unsearched(name)]
    for method in sorted(experiment.search_of.keys() - set(searched)):
        yield f"{key}.search_of: {method!r} is no method that this experiment searches; allowed: {', '.join(searched)}"
    for name, methods in lists.items():
        for method in sorted(set(methods) - plan.config.methods.keys()):
            yield f"{key}.{name}: method {method!r} does not exist{among(method, plan.config.methods)}"
        for method in sorted({m for m in methods if methods.count(m) > 1}):
            yield f"{key}.{name}: method {method!r} is named twice; each once"


def _cells_problems(space: Space, experiment: Experiment, key: str) -> Iterator[str]:
    searches = {"search": experiment.search}
    searches |= {f"search_of.{name}": experiment.search_by(name) for name in experiment.search_of}
    trained: dict[str, Search | Retrain] = {
        _at(experiment, name): settings for name, settings in experiment.retrainings().items()
    }
    for name, settings in {**searches, **trained}.items():
        if (problem := space.cells_problem(settings.cells)) is not None:
            yield f"{key}.{name}.cells: {settings.cells} is not allowed; {problem}"
    for name, search in searches.items():
        if search.nesterov and search.momentum == 0:
            yield f"{key}.{name}.nesterov: true is not allowed with momentum 0"
        if search.cuda_graph and search.clip_architecture and search.order == "weights_first":
            yield f"{key}.{name}.cuda_graph: not allowed with clip_architecture and order 'weights_first'"
        if search.statistics == "running" and search.fast:
            yield f"{key}.{name}.statistics: 'running' is not allowed with fast: true; it keeps none"


def _at(experiment: Experiment, setting: str) -> str:
    """Where the settings of a retraining stand."""
    return "retrain" if setting == experiment.retrain_as else f"retrain_also.{setting}"


def _retraining_problems(plan: Plan, experiment: Experiment, key: str) -> Iterator[str]:
    """Further retrainings where there is no first one, or with its name."""
    if not experiment.retrain_also:
        return
    if experiment.retrain is None:
        yield f"{key}.retrain_also: not allowed without retrain, whose settings it changes"
    elif plan.evaluation(experiment.space) == "lookup":
        yield f"{key}.retrain_also: not allowed where cells are looked up (nas_bench_201_table)"
    for name in (name for name in experiment.retrain_also if name.endswith("_checkpoint")):
        yield f"{key}.retrain_also: the name {name!r} is not allowed; that of a folder of checkpoints"
    if experiment.retrain_as in experiment.retrain_also:
        yield f"{key}.retrain_also: the name {experiment.retrain_as!r} is that of the settings of retrain (retrain_as)"


def _auxiliary_problems(space: Space, retrain: Retrain, dataset: Dataset, key: str) -> Iterator[str]:
    """An auxiliary head for maps of another size than it is made for."""
    if retrain.auxiliary == 0 or space.cells_problem(retrain.cells):
        return
    if dataset.image != (32, 32):
        yield (
            f"{key}: {retrain.auxiliary} is not allowed on {dataset.image[0]}x{dataset.image[1]} images; "
            "the auxiliary head is defined for 32x32, set 0"
        )
    elif (shrink := space.skeleton(retrain.cells)[2 * retrain.cells // 3].shrink) != AUXILIARY_SHRINK:
        yield (
            f"{key}: {retrain.auxiliary} is not allowed with {retrain.cells} cells of {space.name}; the auxiliary head is "
            f"defined for maps of a quarter of the image's side, and there they have 1/{shrink}, set 0"
        )


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
    if (problem := space.cells_problem(transfer.cells)) is not None:
        yield f"{key}.cells: {transfer.cells} is not allowed; {problem}"
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


def _method_problems(
    space: Space, experiment: Experiment, dataset: Dataset, method: Method, method_key: str, key: str
) -> Iterator[str]:
    yield from part_problems(space, experiment, method, method_key, key)
    if method.weights == "given":
        try:
            given_cell(method.genotype or "", space)
        except ValueError as error:
            yield f"{method_key}.genotype: {error}"
    elif method.genotype is not None:
        yield f"{method_key}.genotype: not allowed with weights {method.weights!r}, whose cells aren't given"
    if method.weights in UNSEARCHED:
        return
    shrink = max(layer.shrink for layer in space.skeleton(experiment.search.cells))
    if any(side % shrink for side in dataset.image):
        return  # said of the experiment
    warmup, epochs = method.warmup_epochs, experiment.search.epochs
    if warmup >= epochs:
        yield f"{method_key}.warmup_epochs: {warmup} is not allowed; fewer than the epochs of {key}.search ({epochs})"
    if method.distribution == "pairs" and space.kept_edges != 2:
        yield f"{method_key}.distribution: 'pairs' is not allowed in {space.name}, which keeps all edges; allowed: edge, node"
    if method.weights in ("attention", "static"):
        yield from _attention_problems(experiment, method, method_key, key)
    for problem in _map_problems(space, experiment, dataset.image, method, f" on {dataset.name}"):
        yield f"{method_key}.patch_size: {problem}"


def _attention_problems(experiment: Experiment, method: Method, method_key: str, key: str) -> Iterator[str]:
    """Options of the attention that would do nothing, or leave nothing."""
    if method.weights != "attention":
        for name, usual in ATTENTION.items():
            if getattr(method, name) != usual:
                yield f"{method_key}.{name}: not allowed with weights {method.weights!r}, which has no attention"
        return
    if method.projections == "frozen" and method.weight_decay is not None:
        yield f"{method_key}.weight_decay: not allowed with frozen projections, which don't decay"
    if method.decoupled_weight_decay and (method.projections == "frozen" or method.weight_decay == 0):
        yield f"{method_key}.decoupled_weight_decay: not allowed where nothing decays"
    if method.projected == "maps" and method.activation == "none":
        yield f"{method_key}.projected: 'maps' is not allowed without an activation, with which alone it differs from 'means'"
    if method.normalise == "layer_norm" and experiment.search.channels == 1:
        yield f"{method_key}.normalise: 'layer_norm' is not allowed with 1 channel ({key}.search), which it would leave at 0"


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


def _cost_problems(
    plan: Plan, space: Space, experiment: Experiment, dataset: Dataset, cost: Cost, key: str
) -> Iterator[str]:
    known = plan.config.methods
    names = [name for name in dict.fromkeys([cost.baseline, *cost.methods]) if name in known]
    for name in names:
        if known[name].weights in UNSEARCHED:
            yield f"{key}.methods: {name!r} is not allowed; a {known[name].weights} cell is not searched"
        elif name not in experiment.methods + experiment.ablation:
            yield from _method_problems(space, experiment, dataset, known[name], f"methods.{name}", key)
    if cost.baseline in cost.methods:
        yield f"{key}.methods: {cost.baseline!r} is the baseline; name the others alone"
    first = known.get(cost.methods[0])
    if first is None or first.weights in UNSEARCHED:
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


def _done(plan: Plan, cell: Cell) -> bool:
    """Whether everything that needs a cell's data exists."""
    steps = [] if plan.is_unsearched(cell.method) else ["search"]
    if cell.method in cell.experiment.methods and plan.evaluation(cell.experiment.space) == "retrain":
        steps += ["retrain", *(f"retrain_also/{setting}" for setting in cell.experiment.retrain_also)]
    return all((plan.cell_folder(cell) / step / "metrics.json").exists() for step in steps)
