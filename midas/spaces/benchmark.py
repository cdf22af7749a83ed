"""The table of NAS-Bench-201 (Dong and Yang, ICLR 2020): one row for each of its 15,625 cells.

The table is a csv file (may be compressed, see `midas.files.texts`) that the user names. Columns that are read, all accuracies in
percent after 200 epochs and averaged over the benchmark's seeds: see `COLUMNS`. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
import random
import statistics
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

from midas.files.texts import read_text
from midas.spaces import genotype
from midas.spaces.nas_bench_201 import EDGES, OPERATIONS

CELLS = len(OPERATIONS) ** len(EDGES)

ACCURACIES = {
    "c10_valid_acc_200": "CIFAR-10 validation, trained on the 25,000 images of the benchmark's training half",
    "c10_test_acc_200": "CIFAR-10 test, trained on all 50,000 images (the number that papers print)",
    "c100_valid_acc_200": "CIFAR-100, the benchmark's validation half of the test images",
    "c100_test_acc_200": "CIFAR-100, the benchmark's test half of the test images",
    "in16_valid_acc_200": "ImageNet16-120, the benchmark's validation half",
    "in16_test_acc_200": "ImageNet16-120, the benchmark's test half",
}
CLASSES = {"c10": 10, "c100": 100, "in16": 120}
FAR_BELOW_CHANCE = 80
"""Percent, divided by the classes: the cells that learn nothing have about 100, and the best one's share of 1 is below."""
SIZES = {
    "c10_params_m": "parameters of the CIFAR-10 network in millions",
    "c10_flops_m": "multiply-adds of the CIFAR-10 network in millions",
}
COLUMNS = {
    "index": "number of the cell in the benchmark",
    "arch": "the cell as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|",
    **ACCURACIES,
    **SIZES,
}
LARGEST_SIZE = 1000
"""No cell has so many millions of parameters or multiply-adds: such a number was not counted in millions."""
SHUFFLED_BY = 88
"""Seed of Python's generator, by which the authors put all cells into order before they numbered them
(D-X-Y/AutoDL-Projects, exps/NAS-Bench-201/main.py); the topology cells of NATS-Bench have the same numbers."""

Rows = dict[str, dict[str, float]]
"""The text of a cell -> its number in each column."""


@cache
def numbers() -> dict[str, int]:
    """The text of every cell -> its number in the benchmark."""
    nodes = sorted({target for _, target in EDGES})
    form = "+".join("|".join(["", *(f"{{}}~{s}" for s, target in EDGES if target == node), ""]) for node in nodes)
    cells = [form.format(*operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    random.Random(SHUFFLED_BY).shuffle(cells)
    return {cell: number for number, cell in enumerate(cells)}


def read_table(path: Path, cells: int | None = None) -> Rows:
    """The rows of a table, checked; a file that has not changed is read once.

    Args:
        path: of the file.
        cells: how many it must hold, None for any number.

    Raises:
        ValueError: the file can't be read, lacks a column or has it twice, a line holds what isn't allowed (the message names
            it), or the table has another number of cells.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: not a readable table: {error}") from error
    rows = _read(path, state.st_mtime_ns, state.st_size)
    if cells is not None and len(rows) != cells:
        fewer = "; the key nas_bench_201_cells says how many a smaller table has" if cells == CELLS else ""
        raise ValueError(f"{path}: {len(rows):,} cells are not allowed; {cells:,}, each once{fewer}")
    return rows


@lru_cache(maxsize=2)
def _read(path: Path, *_: int) -> Rows:
    header, lines = _lines(path)
    places = _places(path, header)
    rows: Rows = {}
    for line, values in lines:
        try:
            if len(values) != len(header):
                raise ValueError(f"{len(values)} values are not allowed; {len(header)}, one for each column")
            cell, row = _row({name: values[place] for name, place in places.items()})
            if cell in rows:
                raise ValueError(f"arch: {cell} is there a second time; each cell once")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        rows[cell] = row
    if not rows:
        raise ValueError(f"{path}: holds no cells")
    for name in ACCURACIES:
        best = max(row[name] for row in rows.values())
        if best < FAR_BELOW_CHANCE / CLASSES[name.partition("_")[0]]:
            raise ValueError(f"{path}: column {name}: {best:g} as the best is not allowed; percent, not fractions of 1")
    return rows


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each line that isn't empty, with its number."""
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        return next(reader, []), [(reader.line_num, values) for values in reader if values]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable table: {error}") from error


def _places(path: Path, header: list[str]) -> dict[str, int]:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; needed: {', '.join(COLUMNS)}")
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: column {', '.join(twice)} is there twice; each once")
    return {name: header.index(name) for name in COLUMNS}


def _row(texts: dict[str, str]) -> tuple[str, dict[str, float]]:
    """Text and numbers of a cell."""
    cell = texts.pop("arch").strip()
    if cell not in numbers():
        raise ValueError(f"arch: {cell!r} is no cell of the benchmark; one is {next(iter(numbers()))}")
    row = {}
    for name, text in texts.items():
        try:
            row[name] = value = float(text)
        except ValueError as error:
            raise ValueError(f"{name}: {text!r} is not allowed; a number") from error
        # a comparison with nan is false
        if name in ACCURACIES and not 0 <= value <= 100:
            raise ValueError(f"{name}: {text} is not allowed; percent, 0 to 100")
        if name in SIZES and not 0 < value < LARGEST_SIZE:
            raise ValueError(f"{name}: {text} is not allowed; millions, above 0 and below {LARGEST_SIZE}")
    if row["index"] != numbers()[cell]:
        raise ValueError(f"index: {texts['index']} is not allowed; {cell} is no. {numbers()[cell]} of the benchmark")
    return cell, row


class Benchmark:
    """The table in memory; raises what `read_table` raises."""

    def __init__(self, path: Path, cells: int | None = None):
        self.path = path
        self._by_text = read_table(path, cells)

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
