"""A cell in the forms that other code reads and writes: DARTS's, NAS-Bench-201's, NASLib's, and this project's JSON.

NASLib (automl/NASLib, naslib/search_spaces/nasbench201/conversions.py and nasbench301/conversions.py) writes numbers. Of a cell
of NAS-Bench-201 six operations, ordered by the edges' *sources*, where the benchmark's own text is ordered by targets; of DARTS's
cells the "compact" form: normal and reduction cell, each with two (source, operation) for each node. Operations count as in the
tuples below.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from midas.spaces.genotype import Genotype, parse

OF_BENCHMARK = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
OF_DARTS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
EDGES = tuple((source, target) for source in range(3) for target in range(source + 1, 4))
"""(source, target) of a cell of NAS-Bench-201 in NASLib's order."""
FORMS = ("darts", "nas_bench_201", "naslib", "json")
NUMBERS = re.compile(r"[\s\d,()\[\]]+")


def read(text: str, space: str = "darts") -> Genotype:
    """A cell of a text in any of the forms but JSON.

    Args:
        text: a form.
        space: see `midas.spaces.genotype.parse`.

    Raises:
        ValueError: it holds none of them, or several.
    """
    if not (text.strip() and NUMBERS.fullmatch(text)):
        return parse(text, space)
    try:
        form = _text(ast.literal_eval(text.strip()))
    except (SyntaxError, TypeError, ValueError, IndexError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"not a cell: {' '.join(text.split())!r}; as NASLib writes one: six numbers of operations (NAS-Bench-201), or two "
            "cells of eight pairs of a source and an operation (DARTS)"
        ) from error
    return parse(form, space)


def _text(numbers: Any) -> str:
    """The form of the field for NASLib's numbers.

    Raises:
        TypeError, IndexError, KeyError: they are no cell.
    """
    if len(numbers) == len(EDGES):
        chosen = dict(zip(EDGES, (OF_BENCHMARK[int(number)] for number in numbers), strict=True))
        return "+".join("".join(f"|{chosen[s, t]}~{s}" for s in range(t)) + "|" for t in range(1, 4))
    normal, reduce = (_edges(cell) for cell in numbers) if len(numbers) == 2 else numbers[len(numbers)]
    return f"Genotype(normal={normal}, normal_concat=[2, 3, 4, 5], reduce={reduce}, reduce_concat=[2, 3, 4, 5])"


def _edges(cell: Any) -> list[tuple[str, int]]:
    if len(cell) != 8:
        raise IndexError("eight edges are wanted")
    return [(OF_DARTS[operation], source) for source, operation in cell]


def written(genotype: Genotype, form: str) -> str:
    """A cell in one of `FORMS`.

    Raises:
        ValueError: the cell has no such form.
    """
    if form == "json":
        return json.dumps({"space": genotype.space, "text": str(genotype), "cells": genotype.cells}, indent=1)
    if form == genotype.family:
        return str(genotype)
    if form == "naslib" and genotype.space == "nas_bench_201":
        chosen = {(source, target): operation for source, target, operation in genotype.edges("cell")}
        return str([OF_BENCHMARK.index(chosen[edge]) for edge in EDGES])
    if form == "naslib" and genotype.space == "darts":
        cells = (genotype.cells["normal"], genotype.cells["reduce"])
        used = {operation for cell in cells for node in cell for operation, _ in node}
        if used <= set(OF_DARTS) and all(len(node) == 2 for cell in cells for node in cell):
            pairs = [
                [(source, OF_DARTS.index(operation)) for node in cell for operation, source in node] for cell in cells
            ]
            return str(tuple(map(tuple, pairs)))
        raise ValueError(
            "form 'naslib' is not allowed; NASLib's cells have two edges a node, of DARTS's seven operations"
        )
    own = [genotype.family, "json", *(["naslib"] if genotype.space in ("darts", "nas_bench_201") else [])]
    raise ValueError(f"form {form!r} is not allowed; a cell of {genotype.space} has: {', '.join(own)}")
