"""What a search space is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal


@dataclass(frozen=True)
class CellSpec:
    """One kind of cell: a directed acyclic graph with candidate operations on its edges.

    Attributes:
        inputs: number of input nodes; they are nodes 0 .. inputs - 1.
        edges: (source, target) of every edge, ordered by target and then by source.
        candidates: the operations offered on each edge, in the same order.
        stride: of the edges that leave the input nodes (2 in a reduction cell).
        outputs: how many nodes, the last ones, a cell of the DARTS family puts out side by side; None: all.
    """

    inputs: int
    edges: tuple[tuple[int, int], ...]
    candidates: tuple[tuple[str, ...], ...]
    stride: int = 1
    outputs: int | None = None

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        """The intermediate nodes, in the order in which they are computed."""
        return tuple(sorted({target for _, target in self.edges}))

    @cached_property
    def put_out(self) -> tuple[int, ...]:
        """The nodes that a cell of the DARTS family puts out."""
        return self.nodes if self.outputs is None else self.nodes[-self.outputs :]

    def incoming(self, node: int) -> tuple[int, ...]:
        """Indices of the edges that end in `node`, ordered by source."""
        return tuple(i for i, (_, target) in enumerate(self.edges) if target == node)

    def outgoing(self, node: int) -> tuple[int, ...]:
        """Indices of the edges that leave `node`, ordered by target."""
        return tuple(i for i, (source, _) in enumerate(self.edges) if source == node)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """All pairs of edges that end in the same node, node by node: the columns of pi in a dump."""
        return tuple(pair for node in self.nodes for pair in combinations(self.incoming(node), 2))


@dataclass(frozen=True)
class Layer:
    """One layer of a network's skeleton.

    Attributes:
        kind: a kind of cell of the space, or "residual" for NAS-Bench-201's fixed reduction block.
        width: channels as a multiple of the initial channels.
        shrink: factor from the image's side to the side of this layer's output.
    """

    kind: str
    width: int
    shrink: int


@dataclass(frozen=True)
class Space:
    """A search space: kinds of cell, the skeleton that repeats them, and how a mixture becomes a cell.

    Attributes:
        name: as written in configurations and paths.
        family: form of its genotypes and networks: "nas_bench_201", "darts", or that of a space of another kind.
        cells: kind -> specification.
        operations: all candidate operations; the axis of a dump, also where an edge offers only some.
        kept_edges: edges that a node keeps (DARTS: 2), None where it keeps all.
        skeleton: number of cells (as the configuration counts them) -> layers.
        pool_norm: whether a pooling candidate is followed by BatchNorm(affine=False) during search (DARTS's mixed operation).
        decodes_none: whether the operation "none" may be decoded.
        min_cells: the fewest cells that the skeleton can have.
        max_cells: the most, None where there is no limit.
        beside: operation that stands beside the mixture of every edge, in the search and in a found network, with the constant
            weight 1; no architecture parameter sets it and no genotype names it.
        own_networks: whether found cells form other networks than those of the family's space of the same name, so that a
            genotype says which space it is of.
        found_pool_norm: whether a pooling is followed by BatchNorm in a found network too.
    """

    name: str
    family: str
    cells: Mapping[str, CellSpec]
    operations: tuple[str, ...]
    kept_edges: int | None
    skeleton: Callable[[int], tuple[Layer, ...]]
    pool_norm: bool
    decodes_none: bool
    min_cells: int = 1
    max_cells: int | None = None
    beside: Literal["skip_connect"] | None = None
    own_networks: bool = False
    found_pool_norm: bool = False

    @property
    def networks(self) -> str:
        """Name of the space whose networks found cells form: what a genotype calls its space."""
        return self.name if self.own_networks else self.family

    def cells_problem(self, cells: int) -> str | None:
        """Why the skeleton can't have so many cells, None where it can."""
        if cells < self.min_cells:
            return f"{self.name} needs at least {self.min_cells}"
        if self.max_cells is not None and cells > self.max_cells:
            return f"{self.name} has at most {self.max_cells}"
        return None

    def with_none(self) -> Space:
        """This space with "none" among the candidates of every edge, before its own; it is decoded as before."""
        cells = {
            kind: replace(spec, candidates=tuple(tuple(dict.fromkeys(("none", *edge))) for edge in spec.candidates))
            for kind, spec in self.cells.items()
        }
        return replace(self, cells=cells, operations=tuple(dict.fromkeys(("none", *self.operations))))
