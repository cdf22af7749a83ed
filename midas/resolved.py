"""What one step is told: its settings resolved, as JSON, and nothing else. `midas.plan` makes these of a configuration."""

from __future__ import annotations

from typing import Literal

from midas.config import Config
from midas.datasets import Dataset
from midas.settings import Cost, Method, Retrain, Search, Strict, Transfer

Device = Literal["auto", "cpu", "cuda"]


class DataRun(Strict):
    """Make a data set ready; of one that is transferred to alone images are opened, or counted alone, not kept."""

    dataset: Dataset
    in_memory: bool = True
    opened: bool = True


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
    """Turn the dump of a search into a cell; without a dump (method random) draw one by the seed."""

    space: str
    method: Method
    seed: int
    dump: str | None


class RetrainRun(Strict):
    """Train a found cell from scratch."""

    genotype: str
    dataset: Dataset
    seed: int
    device: Device
    threads: int
    retrain: Retrain


class LookupRun(Strict):
    """Look a found cell, and the cells decoded on the way, up in the benchmark's table; a random cell has no history."""

    genotype: str
    history: str | None
    table: str


class TransferRun(Strict):
    """Train a found cell on large images."""

    genotype: str
    dataset: Dataset
    seed: int
    device: Device
    threads: int
    transfer: Transfer


class CostRun(Strict):
    """Measure what a search costs, method by method."""

    space: str
    dataset: Dataset
    methods: dict[str, Method]
    seed: int
    device: Device
    threads: int
    search: Search
    cost: Cost


class PresentRun(Strict):
    """Draw one table or figure, or compute the statistics behind them, from files alone."""

    number: int | None = None
    config: Config
