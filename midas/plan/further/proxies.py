"""Scores without training: whether there are images to score cells on, and what the user's robust accuracies lack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from midas.config.further.proxies import Proxies
from midas.images.datasets import IMAGE_FOLDERS
from midas.plan.check_images import training_images
from midas.plan.plan import Plan
from midas.plan.runs import AccuraciesRun
from midas.spaces import SPACES
from midas.spaces.accuracies import read_accuracies

KEY, TABLE, FIGURE, ALONE = "proxies", "S3", None, True


def problems(plan: Plan) -> Iterator[str]:
    """What is wrong with the key `proxies`, together with others."""
    proxies = plan.config.proxies
    if proxies is None:
        return
    yield from _image_problems(plan, proxies)
    robust, looked_up = proxies.robust, (plan.accuracies_folder / "metrics.json").exists()
    named = {"nas_bench_201_table": plan.config.nas_bench_201_table, "proxies.robust.table": robust and robust.table}
    gone = {key: table for key, table in named.items() if table and not os.path.exists(table)}
    if looked_up and gone and (new := _not_looked_up(plan)):
        key, table = next(iter(gone.items()))
        yield f"{key}: {table} is not there, and {plan.accuracies_folder} was made without {len(new)} found cells, e.g. {new[0]}"
    elif robust is not None and not (looked_up and not os.path.exists(robust.table)):
        try:
            read_accuracies(Path(robust.table), robust.columns)
        except ValueError as error:
            yield from (f"proxies.robust: {line}" for line in str(error).splitlines())


def _not_looked_up(plan: Plan) -> list[str]:
    """Found cells that the finished look-up of accuracies didn't have: the ends of their paths."""
    before = plan.finished_run("accuracies")
    known = {_end(path) for path in before.genotypes} if isinstance(before, AccuraciesRun) else set()
    run = plan.resolved("accuracies")
    assert isinstance(run, AccuraciesRun)
    return [_end(path) for path in run.genotypes if _end(path) not in known]


def _end(genotype: str) -> str:
    """A found cell's file from its space on, whatever folder the results lie in."""
    return "/".join(Path(genotype).parts[-6:])


def files(plan: Plan) -> list[Path]:
    """Nothing beside what the steps leave with their `metrics.json`, which is published as of any step."""
    return []


def _image_problems(plan: Plan, proxies: Proxies) -> Iterator[str]:
    """What is wrong with the images that cells are scored on."""
    key = "proxies"
    folders = [plan.chunk_folder(chunk) for chunk in range(proxies.chunks)]
    if all((folder / "metrics.json").exists() for folder in folders):
        return  # the table alone can be redrawn where the data are not
    try:
        dataset = plan.dataset(proxies.dataset)
        images = training_images(dataset) or 0
    except ValueError as error:
        yield f"{key}.dataset: {error}"
        return
    if dataset.kind in IMAGE_FOLDERS[:2]:
        yield f"{key}.dataset: {proxies.dataset!r} is not allowed; its images are read one by one, for a transfer alone"
    elif images < proxies.batch_size:
        yield f"{key}.batch_size: {proxies.batch_size} is not allowed; {proxies.dataset} has {images} training images"
    shrink = max(layer.shrink for layer in SPACES["nas_bench_201"].skeleton(proxies.cells))
    if any(side % shrink for side in dataset.image) or max(dataset.image) == shrink:
        height, width = dataset.image
        yield f"{key}.dataset: images of {height}x{width} are not allowed; sides must be multiples of {shrink}, not both {shrink}"
