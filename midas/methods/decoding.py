"""Which cell mixing weights stand for, and which one a draw gives."""

from __future__ import annotations

import numpy as np

from midas.config.method import Method
from midas.spaces import CellSpec, Space
from midas.spaces.genotype import Genotype, Node


def pools(method: Method, space: Space) -> bool:
    """Whether a method's cells are decoded with the edges of a node pooled, its default resolved."""
    if method.decode_pooled is not None:
        return method.decode_pooled
    return method.gumbel is not None and space.kept_edges is not None


def decode_weights(
    p: np.ndarray,
    pi: np.ndarray | None,
    kinds: list[str],
    space: Space,
    decode_none: bool | None = None,
    threshold: float | None = None,
    pooled: bool = False,
) -> Genotype:
    """The cell that weights stand for: averaged over the cells of a kind; best edges per node, then best operation per edge.

    Where a node keeps two edges, the best pair by pi if there is one (MIDAS), else the two edges with the largest weight of
    any operation (DARTS). Ties go to the first.

    Args:
        p: weights averaged over images [cells, edges, operations].
        pi: weights of pairs averaged over images [cells, pairs], or None.
        kinds: kind of each cell.
        space: the space.
        decode_none: whether "none" may be chosen; None: as the space says.
        threshold: an edge whose operation has a smaller weight is dropped (FairDARTS), and so are edges that leave a node
            which has no inputs then; None: nothing is dropped.
        pooled: whether a node keeps its best (edge, operation), of which several may be of one edge (GDAS).
    """
    allow_none = space.decodes_none if decode_none is None else decode_none
    cells = {}
    for kind, spec in space.cells.items():
        members = [index for index, name in enumerate(kinds) if name == kind]
        weights = _allowed(p[members].mean(0), spec, space, allow_none)
        pairs = None if pi is None else pi[members].mean(0)
        if pooled:
            cells[kind] = tuple(_pooled(node, weights, spec, space) for node in spec.nodes)
        else:
            cells[kind] = tuple(_node(node, weights, pairs, spec, space, threshold) for node in spec.nodes)
        if threshold is not None:
            cells[kind] = _reached(cells[kind], spec)
    return Genotype(space.networks, cells)


def _allowed(weights: np.ndarray, spec: CellSpec, space: Space, allow_none: bool) -> np.ndarray:
    """Weights [edges, operations] with -1 for what may not be chosen."""
    allowed = [[o in offered and (allow_none or o != "none") for o in space.operations] for offered in spec.candidates]
    return np.where(allowed, weights, -1.0)


def threshold_of(method: Method) -> float | None:
    """The threshold of a method's decoding."""
    return method.sparse.threshold if method.sparse else None


def _reached(nodes: tuple[Node, ...], spec: CellSpec) -> tuple[Node, ...]:
    """Nodes with the inputs that something comes through: neither from a node without inputs, nor from one after such."""
    there, kept = set(range(spec.inputs)), []
    for number, node in zip(spec.nodes, nodes, strict=True):
        kept.append(tuple((operation, source) for operation, source in node if source in there))
        there |= {number} if kept[-1] else set()
    return tuple(kept)


def _node(
    node: int, weights: np.ndarray, pairs: np.ndarray | None, spec: CellSpec, space: Space, threshold: float | None
) -> Node:
    edges = spec.incoming(node)
    if space.kept_edges is not None and pairs is not None:
        columns = [index for index, pair in enumerate(spec.pairs) if pair[0] in edges]
        edges = spec.pairs[columns[int(np.argmax(pairs[columns]))]]
    elif space.kept_edges is not None:
        ranked = sorted(edges, key=lambda edge: -weights[edge].max())
        edges = tuple(sorted(ranked[: space.kept_edges]))
    if threshold is not None:
        edges = tuple(edge for edge in edges if weights[edge].max() >= threshold)
    return tuple((space.operations[int(weights[edge].argmax())], spec.edges[edge][0]) for edge in edges)


def _pooled(node: int, weights: np.ndarray, spec: CellSpec, space: Space) -> Node:
    """The best (operation, source) of a node, whatever their edges; ordered by source, of one source the better first."""
    edges = spec.incoming(node)
    everything = [(edge, column) for edge in edges for column in range(len(space.operations))]
    best = sorted(everything, key=lambda one: -weights[one])[: space.kept_edges]
    return tuple(
        (space.operations[column], spec.edges[edge][0]) for edge, column in sorted(best, key=lambda one: one[0])
    )


def random_genotype(space: Space, seed: int, decode_none: bool | None = None) -> Genotype:
    """A cell drawn uniformly among those that the space can decode: for each node edges, then an operation for each.

    Args:
        space: the space.
        seed: of the draw.
        decode_none: whether "none" may be drawn; None: as the space says.
    """
    draw = np.random.default_rng(seed)
    allow_none = space.decodes_none if decode_none is None else decode_none

    def node(spec: CellSpec, target: int) -> Node:
        edges = spec.incoming(target)
        if space.kept_edges is not None:
            edges = tuple(sorted(draw.choice(edges, space.kept_edges, replace=False).tolist()))
        offered = [[o for o in spec.candidates[edge] if allow_none or o != "none"] for edge in edges]
        return tuple((str(draw.choice(o)), spec.edges[edge][0]) for o, edge in zip(offered, edges, strict=True))

    cells = {kind: tuple(node(spec, target) for target in spec.nodes) for kind, spec in space.cells.items()}
    return Genotype(space.networks, cells)
