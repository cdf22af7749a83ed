"""What one step is told: its settings resolved, as JSON, and nothing else. `midas.plan.told` makes these of a configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from midas.config import keys, protocols
from midas.config.keys import Config
from midas.config.kinds import Strict
from midas.config.method import ADDED, Method
from midas.config.settings import Cost, Retrain, Search, Transfer
from midas.images.datasets import Dataset
from midas.running.limits import MACHINE
from midas.running.provenance import digest

Device = Literal["auto", "cpu", "cuda"]

_PLACES: Any = {
    **dict.fromkeys(("genotype", "history", "table", "dump", "described", "opened", "contents"), True),
    "dataset": {"path", "download", "split"},
    "transfer": {"workers"},
    "config": {
        **dict.fromkeys(("data_root", "nas_bench_201_table", "nas_bench_201_cells", "cifar10_split", "claims"), True),
        **dict.fromkeys(("results_dir", "figures_dir", "open_images", "device", "threads", "go_on_elsewhere"), True),
        "datasets": {"__all__": {"path"}},
        "experiments": {"__all__": {"transfer": {"workers"}}},
    },
}
_MACHINE: Any = dict.fromkeys(("device", "threads", "go_on_elsewhere"), True)


def _of_its_time(method: Any) -> Any:
    return ADDED | method if isinstance(method, dict) else method


Told = Annotated[Method, BeforeValidator(_of_its_time)]
"""A method as a resolved run has it: one that lacks a key is older than that key."""


class OfContents(Strict):
    """What is told to a step that reads files of the user; `contents` is their digest as the workflow found it."""

    contents: str = ""


class DataRun(OfContents):
    """Make a data set ready; of one that is transferred to alone images are opened, or counted alone, not kept."""

    dataset: Dataset
    in_memory: bool = True
    opened: bool = True


class SearchRun(OfContents):
    """Search one space on one data set with one method and seed."""

    space: str
    dataset: Dataset
    method: Told
    seed: int
    device: Device
    threads: int
    go_on_elsewhere: bool = False
    search: Search


class DecodeRun(Strict):
    """Turn the dump of a search into a cell; without a dump (method random) draw one by the seed."""

    space: str
    method: Told
    seed: int
    dump: str | None


class RetrainRun(OfContents):
    """Train a found cell from scratch."""

    genotype: str
    dataset: Dataset
    seed: int
    device: Device
    threads: int
    go_on_elsewhere: bool = False
    retrain: Retrain


class LookupRun(OfContents):
    """Look a found cell, and the cells decoded on the way, up in the benchmark's table of so many `cells`.

    A random cell has no history.
    """

    genotype: str
    history: str | None
    table: str
    cells: int | None = None


class TransferRun(OfContents):
    """Train a found cell on large images; `described` is the metrics.json of the step data, which holds their digest."""

    genotype: str
    dataset: Dataset
    described: str | None = None
    seed: int
    device: Device
    threads: int
    go_on_elsewhere: bool = False
    transfer: Transfer


class CostRun(OfContents):
    """Measure what a search costs, method by method."""

    space: str
    dataset: Dataset
    methods: dict[str, Told]
    seed: int
    device: Device
    threads: int
    search: Search
    cost: Cost


class PresentRun(Strict):
    """Draw one table or figure, or compute the statistics behind them, from files alone."""

    number: int | None = None
    config: Config


def decisive(run: Strict) -> dict[str, Any]:
    """What of a run decides its numbers, as JSON values: all but where things lie and who works on them.

    What a search costs depends on threads and device, so they stay there. Elsewhere they change rounding alone; see
    `midas.running.durable.Keeper` for what an interrupted run does with other ones.
    """
    found = run.model_dump(mode="json", exclude=_PLACES if isinstance(run, CostRun) else _PLACES | _MACHINE)
    groups = [found, found.get("config", {})]
    methods = [found["method"]] if "method" in found else []
    for method in (*methods, *(m for group in groups for m in group.get("methods", {}).values())):
        for key in [key for key, before in ADDED.items() if method[key] == before]:
            del method[key]  # so that what was finished before there was that key stays
    for key in [key for key, before in keys.ADDED.items() if groups[1].get(key, ()) == before]:
        del groups[1][key]
    experiments = [e for group in groups for e in group.get("experiments", [])]
    searches = [group["search"] for group in (*groups, *experiments) if isinstance(group.get("search"), dict)]
    for search in searches:
        del search["protocol"]  # what it stands for is there
        for key in [key for key, before in protocols.ADDED.items() if key in search and search[key] == before]:
            del search[key]
    for experiment in experiments:
        if not experiment["search_of"]:
            del experiment["search_of"]
    return found


def identity_of(step: str, run: SearchRun | RetrainRun | TransferRun, device: Any, **contents: str) -> dict[str, Any]:
    """What must be equal for a checkpoint to be continued.

    Args:
        step: name of the module below `midas`.
        run: what it was told; where things lie doesn't matter.
        device: of torch, that it computes on.
        contents: of its inputs, by name: digests or texts.
    """
    machine = {"device": device.type, "threads": run.threads}
    return {"config": decisive(run), **contents, "source_digest": digest(step), MACHINE: machine}
