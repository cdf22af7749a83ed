"""Neighbours among the cells of the DARTS space and of those with its cells (S1 to S4).

A change replaces one edge of one node, in the normal or the reduction cell: by another operation on the same source, or by an
edge from another source, with any operation that this edge offers. Sources of a node stay different. So the distance of two cells
is the number of edges of the one that the other lacks. In the DARTS space a cell has 264 neighbours at distance 1: 96 by another
operation, 168 by another source.

The kinds of change are those of A2M (Gambella, Pittorino and Roveri, arXiv 2503.10404; AI-Tech-Research-Lab/AsquaredM,
sota/cnn/darts.py). What is decided here, because the paper leaves it open or the code can't be meant so:

- A new source comes with any operation, as in the code, not with that of the edge it replaces.
- All cells at a distance are equally probable in a draw. The code draws a node, then a source of it, then an operation, so that
  changes of the first nodes are more probable than others.
- A cell is drawn at exactly the distance that is asked for. The code makes that many changes one after the other, which may
  take one another back, so that it may end nearer.
- Both kinds of cell change. The code splits the number of changes between them evenly; here it follows from the cells there are.
- "none" is no operation of a found cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from random import Random
from typing import Literal

from midas.spaces.genotype import Genotype, Node, check_nodes
from midas.spaces.space import CellSpec, Space

Place = tuple[str, int]
"""Kind of cell and place of an intermediate node in it."""


def distance(first: Genotype, other: Genotype) -> int:
    """Number of changes that lead from one cell to the other.

    Raises:
        ValueError: one is no DARTS cell, a node takes one node twice, or their nodes have not as many edges.
    """
    for cell in (first, other):
        _check_sources(cell)
    places = _places(first)
    sizes = [[len(cell.cells[kind][place]) for kind, place in _places(cell)] for cell in (first, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{other} is not allowed; a cell whose nodes have as many edges as {first}")
    return sum(len(set(first.cells[k][n]) - set(other.cells[k][n])) for k, n in places)


def neighbours(
    cell: Genotype, space: Space, change: Literal["operation", "source"] | None = None
) -> Iterator[Genotype]:
    """Every cell at distance 1, each once.

    Args:
        cell: a cell of the space.
        space: with DARTS's cells.
        change: by another operation or by another source alone; None for both.

    Raises:
        ValueError: it is no cell of the space.
    """
    for (kind, place), own in _own_nodes(cell, space).items():
        for node in _nodes(cell, space.cells[kind], kind, place):
            lost, gained = set(own) - set(node), set(node) - set(own)
            if len(lost) == 1:
                ((_, before),), ((_, after),) = lost, gained
                if change in (None, "operation" if before == after else "source"):
                    yield _with(cell, {(kind, place): node})


def counts(cell: Genotype, space: Space) -> list[int]:
    """How many cells of the space lie at each distance, from 0 to the number of edges.

    Raises:
        ValueError: it is no cell of the space.
    """
    ways = [1]
    for kind, place in _own_nodes(cell, space):
        ways = _product(ways, [len(nodes) for nodes in _by_distance(cell, space.cells[kind], kind, place)])
    return ways


def sample(cell: Genotype, space: Space, radius: int, count: int, seed: int) -> list[Genotype]:
    """Different cells at exactly a distance, each equally probable, in the order in which they are drawn.

    Args:
        cell: a cell of the space.
        space: with DARTS's cells.
        radius: the distance.
        count: how many.
        seed: of the draw.

    Raises:
        ValueError: it is no cell of the space, or there are not so many at that distance.
    """
    own = _own_nodes(cell, space)
    choices = [_by_distance(cell, space.cells[kind], kind, place) for kind, place in own]
    there = counts(cell, space)
    if not 1 <= radius < len(there):
        raise ValueError(f"radius: {radius} is not allowed; 1 to {len(there) - 1}, the number of edges")
    if not 1 <= count <= there[radius]:
        raise ValueError(f"count: {count} is not allowed; 1 to {there[radius]:,}, the cells at distance {radius}")
    rest = [[1]]  # of the nodes that are still to come: ways to each number of changes
    for nodes in reversed(choices):
        rest.append(_product(rest[-1], [len(group) for group in nodes]))
    draw, found = Random(seed), dict[str, Genotype]()
    while len(found) < count:
        drawn = _with(cell, dict(zip(own, _draw(draw, choices, rest[-2::-1], radius), strict=True)))
        found.setdefault(str(drawn), drawn)
    return list(found.values())


def _draw(draw: Random, choices: list[list[list[Node]]], rest: Sequence[list[int]], changes: int) -> Iterator[Node]:
    """A node for each place, with so many changes in all, every way equally probable."""
    for nodes, ways in zip(choices, rest, strict=True):
        weights = [
            len(group) * (ways[changes - taken] if 0 <= changes - taken < len(ways) else 0)
            for taken, group in enumerate(nodes)
        ]
        place = draw.randrange(sum(weights))  # whole numbers: exact, however many there are
        taken = 0
        while place >= weights[taken]:
            place -= weights[taken]
            taken += 1
        changes -= taken
        yield draw.choice(nodes[taken])


def _places(cell: Genotype) -> list[Place]:
    return [(kind, place) for kind, nodes in cell.cells.items() for place in range(len(nodes))]


def _check_sources(cell: Genotype) -> None:
    if set(cell.cells) != {"normal", "reduce"}:
        raise ValueError(f"{cell} is not allowed; a cell of the DARTS space or of S1 to S4")
    for kind, place in _places(cell):
        sources = [source for _, source in cell.cells[kind][place]]
        if len(set(sources)) < len(sources):
            raise ValueError(
                f"node {place + 2} of the {kind} cell takes a node twice; each at most once has neighbours here"
            )


def _own_nodes(cell: Genotype, space: Space) -> dict[Place, Node]:
    """The nodes of a cell that is one of the space."""
    if space.family != "darts":
        raise ValueError(f"space {space.name} is not allowed; one with DARTS's cells")
    _check_sources(cell)
    check_nodes(cell)
    for kind, spec in space.cells.items():
        offered = dict(zip(spec.edges, spec.candidates, strict=True))
        for source, target, operation in cell.edges(kind):
            if operation == "none" or operation not in offered[source, target]:
                allowed = ", ".join(o for o in offered[source, target] if o != "none")
                wrong = f"{operation} from node {source} to node {target} of the {kind} cell"
                raise ValueError(f"{wrong} is not in {space.name}; allowed: {allowed}")
    return {(kind, place): cell.cells[kind][place] for kind, place in _places(cell)}


def _nodes(cell: Genotype, spec: CellSpec, kind: str, place: int) -> Iterator[Node]:
    """Every way in which a node can have as many edges as it has, ordered by source.

    Where nodes of the cell have no edges (`sparse`), these stay without, and no other node reads them.
    """
    there = {*range(spec.inputs), *cell.nodes(kind)}
    incoming = [edge for edge in spec.incoming(spec.nodes[place]) if spec.edges[edge][0] in there]
    for chosen in combinations(incoming, len(cell.cells[kind][place])):
        offered = ([operation for operation in spec.candidates[edge] if operation != "none"] for edge in chosen)
        for operations in product(*offered):
            yield tuple((op, spec.edges[edge][0]) for op, edge in zip(operations, chosen, strict=True))


def _by_distance(cell: Genotype, spec: CellSpec, kind: str, place: int) -> list[list[Node]]:
    """The ways of a node by their number of changes."""
    own = set(cell.cells[kind][place])
    groups: list[list[Node]] = [[] for _ in range(len(own) + 1)]
    for node in _nodes(cell, spec, kind, place):
        groups[len(own - set(node))].append(node)
    return groups


def _product(first: list[int], other: list[int]) -> list[int]:
    """Coefficients of the product of two polynomials."""
    found = [0] * (len(first) + len(other) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(other):
            found[i + j] += a * b
    return found


def _with(cell: Genotype, changed: dict[Place, Node]) -> Genotype:
    """The cell with other nodes in some places."""
    return Genotype(
        cell.space,
        {
            kind: tuple(changed.get((kind, place), node) for place, node in enumerate(nodes))
            for kind, nodes in cell.cells.items()
        },
    )
