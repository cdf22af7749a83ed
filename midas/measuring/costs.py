"""What a search costs, method by method: time and memory of a step, side by side.

The supernets take their turns in one process, in an order that is reversed each time so that drift cancels, and are compared
turn by turn. Images and labels are random: the time of a step doesn't depend on their values. Loading and augmentation, the same
for all methods, are left out.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from midas.config.method import Method
from midas.config.settings import Search
from midas.images.halves import search_halves
from midas.images.reading import load
from midas.measuring.synthetic import SyntheticSearch, random_batch
from midas.measuring.timing import median_interval, seconds_of, take_turns
from midas.methods.composition import supernet_of
from midas.plan.runs import CostRun
from midas.running.memory import peak_resident
from midas.spaces import get_space

CONVENTION = (
    "Multiply-adds of convolutions and matrix products in the forward pass of one image, half of torch.utils.flop_counter's "
    "count; elementwise products (mixing, query times key) are not counted."
)
INTERVAL = "order statistics, coverage at least 95 % whatever the distribution; none below 6 repeats"
NO_MEMORY = "the GPU's memory doesn't suffice"
MEMORY_STEPS = 2
"""From the second step on both optimisers hold their moments."""


@dataclass(frozen=True)
class Variant:
    """A supernet whose cost is measured; two that differ in name alone are the same.

    Attributes:
        name: of its method in the configuration.
        method: that method, its patch size perhaps another.
        image: height and width in pixels.
    """

    name: str = field(compare=False)
    method: Method
    image: tuple[int, int]

    @property
    def patch_size(self) -> int | None:
        """Side of a patch, None where there are none."""
        return self.method.patch_size if self.method.weights == "attention" else None

    def __str__(self) -> str:
        patches = "" if self.patch_size is None else f", patches of {self.patch_size}"
        return f"{self.name}{patches} on {self.image[0]}x{self.image[1]} images"


@dataclass(frozen=True)
class Measured:
    """What was measured of a variant.

    Attributes:
        seconds: of one step, by repeat; empty if memory didn't suffice.
        peak: bytes of memory, None if they didn't suffice.
    """

    seconds: list[float]
    peak: int | None


def comparisons(run: CostRun) -> list[tuple[str, Variant]]:
    """What each part of table 6 puts side by side. What several rows show is one variant, and measured once."""
    cost, first = run.cost, run.cost.methods[0]

    def variant(name: str, image: tuple[int, int] = run.dataset.image, **changes: int) -> Variant:
        return Variant(name, run.methods[name].model_copy(update=changes), image)

    found = [("methods", variant(name)) for name in (cost.baseline, *cost.methods)]
    for side in cost.resolutions:
        found += [("resolution", variant(name, (side, side))) for name in (cost.baseline, first)]
    if cost.patch_sizes:
        found.append(("patch_size", variant(cost.baseline)))
    return found + [("patch_size", variant(first, patch_size=size)) for size in cost.patch_sizes]


def baseline_of(run: CostRun, variant: Variant) -> Variant:
    """What a variant is compared with: the baseline at the same image size."""
    return Variant(run.cost.baseline, run.methods[run.cost.baseline], variant.image)


def steps_per_epoch(run: CostRun) -> int:
    """Bilevel steps in an epoch of the search.

    Raises:
        ValueError: a half of the images doesn't fill a batch, or the data set can't be read.
    """
    train, _ = load(run.dataset, torch.device("cpu"))
    images, batch = (
        min(map(len, search_halves(run.dataset, len(train), run.search.first_images))),
        run.search.batch_size,
    )
    if images < batch:
        raise ValueError(
            f"batch_size: {batch} is not allowed; {run.dataset.name} has {images} images for a half of the search"
        )
    return images // batch


def measure(run: CostRun, variants: list[Variant], device: torch.device) -> dict[Variant, Measured]:
    """Memory of each variant by itself, then the time of all of them in turn."""
    peaks: dict[Variant, int | None] = {}
    for variant in dict.fromkeys(variants):
        print(f"memory of {variant}", file=sys.stderr, flush=True)
        peaks[variant] = peak_memory(run, variant, device)
    steppers = {v: _stepper(run, v, run.search, device) for v, peak in peaks.items() if peak is not None}
    turns = take_turns(list(steppers), run.cost.repeats, lambda v: seconds_of(steppers[v], run.cost.steps, device))
    return {variant: Measured(turns.get(variant, []), peak) for variant, peak in peaks.items()}


def peak_memory(run: CostRun, variant: Variant, device: torch.device) -> int | None:
    """Most bytes that a search holds, with nothing beside it; None if a GPU hasn't as many.

    On a GPU those that torch allocates for it. On a CPU those resident in a process of its own, less what a process holds
    that has run the smallest such search: libraries load much of their code when it is first used. The process comes from
    Python's fork server, which has imported everything and computed nothing, so that it is neither slow to start nor
    troubled by the threads of this one.

    Raises:
        ValueError: the process was killed.
    """
    if device.type == "cuda":
        return _peak_on_gpu(run, variant, device)
    context = multiprocessing.get_context("forkserver")
    # the second is what torch imports when an optimiser is made
    context.set_forkserver_preload(["midas.measuring.timing", "torch._dynamo"])
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_peak_resident, run, variant).result()
        except BrokenProcessPool as error:
            message = f"cost: the process that searches with {variant} was killed, most likely for want of memory"
            raise ValueError(message) from error


def _peak_on_gpu(run: CostRun, variant: Variant, device: torch.device) -> int | None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        _search(run, variant, run.search, device)
    except torch.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated(device) - before


def _peak_resident(run: CostRun, variant: Variant) -> int:
    torch.set_num_threads(run.threads)
    smallest = {"channels": 2, "cells": get_space(run.space).min_cells, "batch_size": 2}
    _search(run, variant, run.search.model_copy(update=smallest), torch.device("cpu"))
    before = peak_resident()
    _search(run, variant, run.search, torch.device("cpu"))
    return peak_resident() - before


def _search(run: CostRun, variant: Variant, settings: Search, device: torch.device) -> None:
    step = _stepper(run, variant, settings, device)
    for _ in range(MEMORY_STEPS):
        step()


def _stepper(run: CostRun, variant: Variant, settings: Search, device: torch.device) -> Callable[[], None]:
    """A new search of a variant: each call is a bilevel step."""
    classes = run.dataset.classes
    search = SyntheticSearch(run.space, variant.method, settings, classes, device)
    train, valid = (random_batch(settings.batch_size, variant.image, classes, device) for _ in range(2))
    return lambda: search.step(train, valid)


def counts(run: CostRun, variant: Variant) -> dict[str, int]:
    """Parameters of a supernet, multiply-adds as `CONVENTION` says, and passes of a bilevel step."""
    settings = run.search
    space, size = get_space(run.space), (settings.channels, settings.cells, run.dataset.classes)
    supernet = supernet_of(space, variant.method, *size, fast=False)  # where average pooling isn't a convolution
    # two images: one alone may leave a single value in a channel, which batch normalisation refuses
    supernet.whole = True  # also where a pass computes what is drawn alone, whose number is chance
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        supernet(torch.zeros(2, 3, *variant.image))
    passes, forward_passes = passes_of_a_step(run, variant)
    return {
        "passes": passes,
        "forward_passes": forward_passes,
        "weights_params": sum(p.numel() for p in supernet.weight_parameters()),
        "architecture_params": sum(p.numel() for p in supernet.architecture_parameters()),
        "multiply_adds": counter.get_total_flops() // 4,
    }


def passes_of_a_step(run: CostRun, variant: Variant) -> tuple[int, int]:
    """Passes forward and backward, and forward alone, that one bilevel step makes: counted in a step on two images."""
    few = run.search.model_copy(update={"batch_size": 2, "cuda_graph": False})
    classes, device = run.dataset.classes, torch.device("cpu")
    search = SyntheticSearch(run.space, variant.method, few, classes, device)
    search.step(*(random_batch(few.batch_size, variant.image, classes, device) for _ in range(2)))
    return search.passes


def cost_rows(
    run: CostRun, compared: list[tuple[str, Variant]], found: dict[Variant, Measured], steps: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json: names, counts and costs of each variant; an epoch has so many steps."""
    return [
        _names(part, variant) | counts(run, variant) | _costs(found[variant], found[baseline_of(run, variant)], steps)
        for part, variant in compared
    ]


def turn_rows(compared: list[tuple[str, Variant]], found: dict[Variant, Measured]) -> list[dict[str, Any]]:
    """Rows of steps.csv: seconds of one step, for each turn of each variant."""
    return [
        {"repeat": repeat, **_names(part, variant), "seconds": seconds}
        for part, variant in compared
        for repeat, seconds in enumerate(found[variant].seconds)
    ]


def _names(part: str, variant: Variant) -> dict[str, Any]:
    height, width = variant.image
    names = {"part": part, "method": variant.name, "image_height": height, "image_width": width}
    return {**names, "patch_size": variant.patch_size}


def _costs(found: Measured, baseline: Measured, steps_per_epoch: int) -> dict[str, Any]:
    """Numbers of a row: those of a step and their ratio to the baseline's of the same repeat; None if memory didn't suffice."""
    low, median, high = np.percentile(found.seconds, [25, 50, 75]).tolist() if found.seconds else (None, None, None)
    paired = bool(found.seconds and baseline.seconds)
    ratios = np.divide(found.seconds, baseline.seconds).tolist() if paired else []
    ratio, ratio_low, ratio_high = median_interval(ratios) if paired else (None, None, None)
    return {
        "step_seconds": median,
        "step_seconds_low": low,
        "step_seconds_high": high,
        "ratio": ratio,
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
        "epoch_seconds": None if median is None else median * steps_per_epoch,
        "peak_memory_bytes": found.peak,
        "memory_ratio": found.peak / baseline.peak if found.peak and baseline.peak else None,
        "missing": "" if found.seconds else NO_MEMORY,
    }
