"""How much do cells of NAS-Bench-201 that compute the same function differ? ``python -m benchmarks.same_function TABLE``.

Two cells are taken as one function if they add up the same terms whatever their weights are: a skip hands its node's terms on,
"none" and the average of nothing add none, and a convolution of nothing still adds its normalisation's shift. Their accuracies
then differ by what a training does by chance. Writes benchmarks/same_function.json.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from midas.spaces.benchmark import ACCURACIES, CELLS, Rows, read_table
from midas.spaces.genotype import Genotype, parse

BEST_SHARE = 0.1
"""Share of the functions that is called good, by the mean accuracy of their cells."""


def function(cell: Genotype) -> str:
    """What a cell computes of its input "x": terms in a fixed order, with their multiplicity."""
    terms = [["x"]]
    for node in cell.cells["cell"]:
        found: list[str] = []
        for operation, source in node:
            given = terms[source]
            if operation == "skip_connect":
                found += given
            elif operation != "none" and (given or operation != "avg_pool_3x3"):
                found.append(f"{operation}({' + '.join(given)})")
        terms.append(sorted(found))
    return " + ".join(terms[-1])


def spreads(rows: Rows) -> dict[str, Any]:
    """Numbers of functions, and for each accuracy how far the cells of one function are apart."""
    members = defaultdict(list)
    for text, row in rows.items():
        members[function(parse(text))].append(row)
    several = [cells for cells in members.values() if len(cells) > 1]
    numbers: dict[str, Any] = {"cells": len(rows), "functions": len(members), "of_several_cells": len(several)}
    for name in ACCURACIES:
        values = [np.array([row[name] for row in cells]) for cells in several]
        apart, mean = np.array([np.ptp(v) for v in values]), np.array([v.mean() for v in values])
        good = apart[mean >= np.quantile(mean, 1 - BEST_SHARE)]
        found = {
            "largest": apart.max(),
            "median": np.median(apart),
            "good_largest": good.max(),
            "good_median": np.median(good),
        }
        numbers[name] = {key: round(float(value), 2) for key, value in found.items()}
    return numbers


def main() -> None:
    """Run from the command line; wrong input ends in one line and exit code 2."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.same_function TABLE")
    try:
        numbers = spreads(read_table(Path(sys.argv[1]), CELLS))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Path(__file__).with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
