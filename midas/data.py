"""Make a data set ready for the searches and trainings that read it.

``python -m midas.data RUN FOLDER`` downloads, writes or checks its images, and writes `metrics.json`: how many there are, mean
and deviation of their channels where they are held in memory, and a digest of what they hold.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from midas.images.contents import of_images
from midas.images.datasets import Dataset, image_files, part_tested
from midas.images.digits import digit_halves
from midas.images.folders import describe, left_out, write_photos
from midas.images.loader import Statistics
from midas.images.opening import open_all
from midas.images.reading import digest_of, load
from midas.plan.runs import DataRun
from midas.running.provenance import write_metrics
from midas.running.step import main


def prepare(run: DataRun, folder: Path) -> None:
    """Download, write and check a data set where needed, and write `metrics.json`: numbers, and a digest of the images.

    Raises:
        ValueError: files are missing or damaged, or not what the data set's description says.
    """
    start = time.monotonic()
    numbers = _of_arrays(run.dataset) if run.in_memory else _of_folder(run.dataset, run.opened)
    numbers |= part_tested(run.dataset) | left_out(run.dataset)
    if run.in_memory and run.dataset.kind == "folder":  # a transfer reads them at another size
        numbers["files_sha256"] = of_images(Path(str(run.dataset.path)), image_files(run.dataset))
    print(json.dumps(numbers), file=sys.stderr)
    write_metrics(folder / "metrics.json", "data", run, numbers, time.monotonic() - start)


def _of_arrays(dataset: Dataset) -> dict[str, Any]:
    """Numbers of a data set that is held in memory; the digest is of its pixels and labels."""
    train, test = load(dataset, torch.device("cpu"))
    statistics = Statistics.of(train)
    return {
        "train_images": len(train),
        "test_images": len(test),
        "mean": [round(v / 255, 6) for v in statistics.mean.flatten().tolist()],
        "std": [round(v / 255, 6) for v in statistics.std.flatten().tolist()],
        "sha256": digest_of(train, test),
    }


def _of_folder(dataset: Dataset, opened: bool) -> dict[str, Any]:
    """Numbers of a folder of images, which are decoded to no other end than to know that they can be."""
    assert dataset.path is not None
    if dataset.kind == "digit_photos":
        write_photos(Path(dataset.path), *digit_halves())
    numbers = describe(dataset)
    return numbers | ({"sha256": open_all(Path(dataset.path), image_files(dataset))} if opened else {})


if __name__ == "__main__":
    main(DataRun, prepare)
