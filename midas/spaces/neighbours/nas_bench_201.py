"""Neighbours among the cells of NAS-Bench-201: a change gives one of the six edges another of the five operations.

The distance of two cells is the number of edges on which they differ (A2M, arXiv 2503.10404; its code compares the same six
numbers). At the distances 0 to 6 of any cell lie 1, 24, 240, 1,280, 3,840, 6,144 and 4,096 cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product

from midas.spaces.genotype import Genotype
from midas.spaces.nas_bench_201 import EDGES, NAS_BENCH_201, OPERATIONS


def operations_of(cell: Genotype) -> tuple[str, ...]:
    """The operation on each of the six edges, ordered by target and then by source.

    Raises:
        ValueError: it is a cell of another space.
    """
    nodes = cell.cells.get("cell", ())
    if cell.space != NAS_BENCH_201.family or [[s for _, s in node] for node in nodes] != [[0], [0, 1], [0, 1, 2]]:
        raise ValueError(f"{cell} is not allowed; a cell of {NAS_BENCH_201.name}")
    return tuple(operation for node in nodes for operation, _ in node)


def cell_of(operations: Sequence[str]) -> Genotype:
    """The cell with these operations on its six edges, the inverse of `operations_of`."""
    on_edges = tuple(zip(operations, EDGES, strict=True))
    targets = dict.fromkeys(target for _, target in EDGES)
    nodes = tuple(tuple((op, source) for op, (source, target) in on_edges if target == node) for node in targets)
    return Genotype(NAS_BENCH_201.family, {"cell": nodes})


def distance(first: Genotype, other: Genotype) -> int:
    """Number of edges whose operations differ, 0 to 6.

    Raises:
        ValueError: one is a cell of another space.
    """
    return sum(a != b for a, b in zip(operations_of(first), operations_of(other), strict=True))


def neighbours(cell: Genotype, radius: int) -> Iterator[Genotype]:
    """Every cell at exactly this distance, each once.

    Raises:
        ValueError: it is a cell of another space, or no cell is so far away.
    """
    own = operations_of(cell)
    if not 0 <= radius <= len(EDGES):
        raise ValueError(f"radius: {radius} is not allowed; 0 to {len(EDGES)}, the number of edges")
    for edges in combinations(range(len(EDGES)), radius):
        for chosen in product(*([o for o in OPERATIONS if o != own[edge]] for edge in edges)):
            changed = dict(zip(edges, chosen, strict=True))
            yield cell_of([changed.get(edge, operation) for edge, operation in enumerate(own)])


def between(first: Genotype, other: Genotype) -> list[list[Genotype]]:
    """The cells on the shortest paths between two, step by step: at step k those with k of the differing edges as in `other`.

    Of d differing edges step k has "d over k" cells; the first and the last step have one. Each cell of a step lies on as many of
    the d! shortest paths as any other of that step, so that a mean over a step is one over the paths.

    Raises:
        ValueError: one is a cell of another space.
    """
    start, end = operations_of(first), operations_of(other)
    differing = [edge for edge, (a, b) in enumerate(zip(start, end, strict=True)) if a != b]
    steps = (combinations(differing, taken) for taken in range(len(differing) + 1))
    return [
        [cell_of([end[edge] if edge in taken else start[edge] for edge in range(len(EDGES))]) for taken in step]
        for step in steps
    ]


def shortest_paths(first: Genotype, other: Genotype) -> Iterator[list[Genotype]]:
    """Each shortest path between two cells, both included: one for each order in which their d differing edges change, d! in all.

    Raises:
        ValueError: one is a cell of another space.
    """
    start, end = operations_of(first), operations_of(other)
    differing = [edge for edge, (a, b) in enumerate(zip(start, end, strict=True)) if a != b]
    for order in permutations(differing):
        current, path = list(start), [cell_of(start)]
        for edge in order:
            current[edge] = end[edge]
            path.append(cell_of(current))
        yield path
