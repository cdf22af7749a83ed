"""The table of NAS-Bench-201 (Dong and Yang, ICLR 2020): one row for each of its 15,625 cells.

The table is a csv file (may be gzipped) that the user names. Columns that are read, all accuracies in percent after 200
epochs and averaged over the benchmark's seeds: see `COLUMNS`. Other columns are ignored.
"""

from __future__ import annotations

import csv
import gzip
import statistics
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midas import genotype

ACCURACIES = {
    "c10_valid_acc_200": "CIFAR-10 validation, trained on the 25,000 images of the benchmark's training half",
    "c10_test_acc_200": "CIFAR-10 test, trained on all 50,000 images (the number that papers print)",
    "c100_valid_acc_200": "CIFAR-100, the benchmark's validation half of the test images",
    "c100_test_acc_200": "CIFAR-100, the benchmark's test half of the test images",
    "in16_valid_acc_200": "ImageNet16-120, the benchmark's validation half",
    "in16_test_acc_200": "ImageNet16-120, the benchmark's test half",
}
COLUMNS = {
    "index": "number of the cell in the benchmark",
    "arch": "the cell as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|",
    **ACCURACIES,
    "c10_params_m": "parameters of the CIFAR-10 network in millions",
    "c10_flops_m": "multiply-adds of the CIFAR-10 network in millions",
}


@contextmanager
def _rows(path: Path) -> Iterator[csv.DictReader]:
    try:
        compressed = path.read_bytes()[:2] == b"\x1f\x8b"
        with (gzip.open if compressed else open)(path, "rt", newline="") as file:
            yield csv.DictReader(file)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path}: not a readable table: {error}") from error


def read_header(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        ValueError: the file can't be read or lacks one of `COLUMNS`.
    """
    with _rows(path) as rows:
        header = list(rows.fieldnames or [])
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; needed: {', '.join(COLUMNS)}")
    return header


class Benchmark:
    """The table in memory.

    Raises:
        ValueError: the file can't be read, lacks a column, or holds something that isn't a number where one belongs.
    """

    def __init__(self, path: Path):
        read_header(path)
        self.path = path
        self._by_text: dict[str, dict[str, float]] = {}
        with _rows(path) as rows:
            for line, row in enumerate(rows, start=2):
                try:
                    self._by_text[row["arch"]] = {name: float(row[name]) for name in COLUMNS if name != "arch"}
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {line}: {error}") from error
        if not self._by_text:
            raise ValueError(f"{path}: holds no cells")

    def __len__(self) -> int:
        return len(self._by_text)

    def __getitem__(self, cell: genotype.Genotype) -> dict[str, float]:
        """The row of a cell.

        Raises:
            ValueError: the table doesn't hold it.
        """
        if str(cell) not in self._by_text:
            raise ValueError(f"{self.path}: the cell {cell} is not in the table")
        return self._by_text[str(cell)]

    def summary(self) -> dict[str, dict[str, float]]:
        """Best, mean and standard deviation (of the population) of each accuracy over all cells."""
        values = {name: [row[name] for row in self._by_text.values()] for name in ACCURACIES}
        return {
            name: {"best": max(column), "mean": statistics.fmean(column), "std": statistics.pstdev(column)}
            for name, column in values.items()
        }
