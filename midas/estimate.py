"""What a configuration amounts to: ``python -m midas.estimate CONFIG.yaml [key=value ...] [--no-measure]``.

Prints how many searches, look-ups, retrainings, transfers and measurements of cost it has, then times a few steps of each
distinct setting on this device and extrapolates hours. Nothing is downloaded or written, and no data set need be there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from midas.config.keys import Experiment
from midas.config.reading import read_config
from midas.images.datasets import images_of
from midas.images.halves import read_split
from midas.measuring.costs import MEMORY_STEPS, comparisons
from midas.measuring.speed import Setting, Speed, measure
from midas.methods.composition import more_epochs
from midas.methods.field.selection import evaluations
from midas.plan.check import load
from midas.plan.plan import Plan
from midas.plan.runs import CostRun
from midas.running.devices import pick_device
from midas.running.provenance import processor
from midas.spaces import get_space

STEPS = {
    "search": "searches",
    "lookup": "look-ups",
    "retrain": "retrainings",
    "transfer": "transfers",
    "cost": "cost measurements",
}
"""Steps that take more than a moment, or none of it because there is a table; with their plural."""

ASSUMPTIONS = """\
Hours are those of one job after another on this device ({device}, {threads} CPU thread{s}), as busy as it was while they
were measured; jobs side by side share them out, a transfer by several GPUs counts each.
Timed on random images that lie on the device: reading, JPEG decoding, augmentation and, of several GPUs, communication are not
in the hours, nor are the start of a job, data sets, decoding, scores without training, searches over functions, tables and
figures. A network is that of one random cell of its
space; found cells are faster or slower. The cost at other image sizes is taken as proportional to their pixels."""


class Load(NamedTuple):
    """Images that a job computes on under one setting: in training (a search: of each half), and in tests."""

    setting: Setting
    train: float
    test: float


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        step: a key of `STEPS`.
        experiment: that it belongs to.
        method: name of its method; empty for a measurement of cost, which has several.
        done: whether its metrics.json exists.
        setting: name of its settings where it is a further retraining.
    """

    step: str
    experiment: Experiment
    method: str
    done: bool
    setting: str = ""


def jobs(plan: Plan) -> Iterator[Job]:
    """All jobs that are counted."""
    folders = [("search", cell) for cell in plan.cells(searched=True)]
    folders += [(plan.evaluation(cell.experiment.space), cell) for cell in plan.cells(evaluated=True)]
    folders += [("transfer", cell) for cell in plan.transfers()]
    for step, cell in folders:
        path = plan.cell_folder(cell) / step / "metrics.json"
        yield Job(step, cell.experiment, cell.method, path.exists())
    for cell, setting in plan.retrained_also():
        path = plan.retrain_folder(cell, setting) / "metrics.json"
        yield Job("retrain", cell.experiment, cell.method, path.exists(), setting)
    for experiment in plan.costs():
        path = plan.root / experiment.space / experiment.dataset / "cost/metrics.json"
        yield Job("cost", experiment, "", path.exists())


def loads(plan: Plan, job: Job) -> list[Load]:
    """What a job computes; nothing for a look-up."""
    if job.step == "search":
        return [_search_load(plan, job)]
    if job.step == "retrain":
        return [_retrain_load(plan, job)]
    if job.step == "transfer":
        return [_transfer_load(plan, job)]
    return list(_cost_loads(plan, job)) if job.step == "cost" else []


def _search_load(plan: Plan, job: Job) -> Load:
    dataset, search = plan.dataset(job.experiment.dataset), job.experiment.search_by(job.method)
    half = (search.first_images or images_of(dataset)[0]) // 2
    if dataset.split is not None and search.first_images is None:
        half = min(map(len, read_split(Path(dataset.split)).values()))
    setting = _search_setting(plan, job.experiment, job.method)
    method = plan.config.methods[job.method]
    space = get_space(job.experiment.space, method.offer_none)
    epochs, passes = search.epochs + more_epochs(method, space), 1  # the dump is a pass over the validation half
    if method.selection:
        passes += evaluations(space, space.decodes_none if method.decode_none is None else method.decode_none)
    return Load(setting, epochs * _in_batches(half, search.batch_size), passes * half)


def _search_setting(plan: Plan, experiment: Experiment, method: str) -> Setting:
    dataset, search = plan.dataset(experiment.dataset), experiment.search_by(method)
    found = plan.config.methods[method]
    return Setting("search", experiment.space, dataset.image, search.batch_size, search, dataset.classes, found, method)


def _retrain_load(plan: Plan, job: Job) -> Load:
    dataset, found = plan.dataset(job.experiment.dataset), job.experiment.retrainings()
    retrain = found[job.setting or job.experiment.retrain_as]  # `midas.plan.check` has seen to it
    train, test = images_of(dataset)
    train -= retrain.leave_out
    setting = Setting("retrain", job.experiment.space, dataset.image, retrain.batch_size, retrain, dataset.classes)
    return Load(setting, retrain.epochs * _in_batches(train, retrain.batch_size), retrain.epochs * test)


def _transfer_load(plan: Plan, job: Job) -> Load:
    transfer = job.experiment.transfer
    assert transfer is not None
    dataset = plan.transfer_dataset(transfer)
    train, test = images_of(dataset)
    batch = transfer.batch_size // transfer.gpus
    setting = Setting("transfer", job.experiment.space, dataset.image, batch, transfer, dataset.classes)
    return Load(setting, transfer.epochs * _in_batches(train, transfer.batch_size), transfer.epochs * test)


def _cost_loads(plan: Plan, job: Job) -> Iterator[Load]:
    experiment, cost = job.experiment, job.experiment.cost
    assert cost is not None
    run = CostRun.model_validate_json(plan.run("cost", experiment.space, experiment.dataset))
    steps = MEMORY_STEPS + (1 + cost.repeats) * cost.steps
    for variant in dict.fromkeys(variant for _, variant in comparisons(run)):
        setting = _search_setting(plan, experiment, variant.name)
        pixels = variant.image[0] * variant.image[1] / (setting.image[0] * setting.image[1])
        yield Load(setting, steps * setting.batch * pixels, 0)


def _in_batches(images: int, batch: int) -> int:
    """Images of an epoch without its last, smaller batch."""
    return images // batch * batch


def hours(found: Iterable[Load], speeds: dict[Setting, Speed]) -> float:
    """Hours that some loads take."""
    return sum(load.train * speeds[load.setting].train + load.test * speeds[load.setting].test for load in found) / 3600


def plan_table(plan: Plan, counted: list[Job]) -> pd.DataFrame:
    """Number of jobs by experiment and step: how many, of how many methods and seeds, how many of them are done."""
    rows = []
    for experiment in plan.config.experiments:
        row = {"space": experiment.space, "data set": experiment.dataset}
        for step, name in STEPS.items():
            row[name] = _count([job for job in counted if (job.step, job.experiment) == (step, experiment)])
        rows.append(row)
    sums = {name: str(sum(job.step == step for job in counted)) for step, name in STEPS.items()}
    return pd.DataFrame([*rows, {"space": "total", "data set": "", **sums}])


def _count(found: list[Job]) -> str:
    if not found:
        return ""
    methods, done = len({job.method for job in found}), sum(job.done for job in found)
    settings = len({job.setting for job in found})
    factors = f" = {methods} x {len(found) // methods // settings}" if found[0].method else ""
    factors += f" x {settings}" if settings > 1 else ""
    return f"{len(found)}{factors}" + (f" ({done} done)" if done else "")


def hours_table(plan: Plan, left: list[Job], speeds: dict[Setting, Speed]) -> pd.DataFrame:
    """Hours of the jobs that are left by experiment and step, and of the longest of them."""
    steps = [step for step in STEPS if step != "lookup"]
    taken = [(job, hours(loads(plan, job), speeds)) for job in left]
    rows: list[dict[str, Any]] = []
    for experiment in plan.config.experiments:
        own = [(job.step, time) for job, time in taken if job.experiment == experiment]
        sums = {step: sum(time for other, time in own if other == step) for step in steps}
        longest = max((time for _, time in own), default=0.0)
        names = {"space": experiment.space, "data set": experiment.dataset}
        rows.append({**names, **sums, "all": sum(sums.values()), "longest job": longest})
    table = pd.DataFrame(rows)
    total = {**table[[*steps, "all"]].sum().to_dict(), "longest job": table["longest job"].max()}
    return pd.DataFrame([*rows, {"space": "total", "data set": "", **total}])


def _text(table: pd.DataFrame) -> str:
    shown = table.map(lambda value: value if isinstance(value, str) else _number(value))
    return str(
        shown.to_markdown(index=False, disable_numparse=True, colalign=["left"] * 2 + ["right"] * (table.shape[1] - 2))
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measured(settings: Iterable[Setting], device: torch.device) -> dict[Setting, Speed]:
    """Time each distinct setting once, and say which.

    Raises:
        ValueError: the device's memory doesn't suffice for a few images.
    """
    speeds = {}
    for setting in dict.fromkeys(settings):
        print(f"  {setting}: ", end="", flush=True)
        speed = speeds[setting] = measure(setting, device)
        scaled = "" if speed.images == setting.batch else f", timed with {speed.images} images"
        warning = "" if speed.fits else "; a larger batch does not fit into this device's memory"
        print(f"{speed.train * setting.batch:.3g} s a step of {setting.batch} images{scaled}{warning}", flush=True)
    return speeds


def estimate(plan: Plan, measures: bool) -> None:
    """Print the plan and, if asked for, the hours of what is left of it.

    Raises:
        ValueError: the configuration asks for a GPU that isn't there, or a data set of the user's can't be read.
    """
    config, counted = plan.config, list(jobs(plan))
    left = [job for job in counted if not job.done]
    print(f"Size {config.size}: {config.note}\n\nJobs (methods x seeds):\n\n{_text(plan_table(plan, counted))}\n")
    print(f"{len(counted) - len(left)} of {len(counted)} jobs are done: their metrics.json exists in {plan.root}.")
    if not measures or not left:
        return
    torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"\nSpeed on {name}:\n")
    speeds = measured((load.setting for job in left for load in loads(plan, job)), device)
    print(f"\nHours of the {len(left)} jobs that are left:\n\n{_text(hours_table(plan, left, speeds))}\n")
    print(ASSUMPTIONS.format(device=name, threads=config.threads, s="s" if config.threads > 1 else ""))


def main() -> None:
    """Run from the command line; wrong input ends in one line a mistake and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m midas.estimate", description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="a top key of it, replaced")
    parser.add_argument("--no-measure", action="store_true", help="print the plan alone")
    arguments = parser.parse_intermixed_args()
    try:
        estimate(load(read_config(arguments.config, arguments.changes)), not arguments.no_measure)
    except ValueError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
