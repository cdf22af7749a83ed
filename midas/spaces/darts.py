"""The DARTS space (Liu et al., ICLR 2019): normal and reduction cells of four nodes, two edges kept per node."""

from midas.spaces.space import CellSpec, Layer, Space

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def edges_of(nodes: int) -> tuple[tuple[int, int], ...]:
    """Edges of a cell of two inputs and `nodes` nodes, each of which may take all that are before it."""
    return tuple((source, target) for target in range(2, 2 + nodes) for source in range(target))


EDGES = edges_of(4)


def skeleton(cells: int) -> tuple[Layer, ...]:
    """`cells` cells in a row; those at one third and two thirds are reduction cells that double the channels."""
    layers, width = [], 1
    for index in range(cells):
        reduce = index in (cells // 3, 2 * cells // 3)
        width *= 2 if reduce else 1
        layers.append(Layer("reduce" if reduce else "normal", width, width))
    return tuple(layers)


def two_edge_space(name: str, normal: tuple[tuple[str, ...], ...], reduce: tuple[tuple[str, ...], ...]) -> Space:
    """A space of DARTS's cells with its own candidates.

    Args:
        name: of the space.
        normal: operations offered on each of `EDGES` in a normal cell.
        reduce: the same for a reduction cell.
    """
    offered = {operation for candidates in normal + reduce for operation in candidates}
    return Space(
        name=name,
        family="darts",
        cells={
            "normal": CellSpec(inputs=2, edges=EDGES, candidates=normal),
            "reduce": CellSpec(inputs=2, edges=EDGES, candidates=reduce, stride=2),
        },
        operations=tuple(operation for operation in ("none", "noise", *OPERATIONS) if operation in offered),
        kept_edges=2,
        skeleton=skeleton,
        pool_norm=True,
        decodes_none=False,
        min_cells=3,
    )


DARTS = two_edge_space("darts", (OPERATIONS,) * len(EDGES), (OPERATIONS,) * len(EDGES))
