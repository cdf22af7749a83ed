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
EDGES = tuple((source, target) for target in range(2, 6) for source in range(target))


def skeleton(cells: int) -> tuple[Layer, ...]:
    """`cells` cells in a row; those at one third and two thirds are reduction cells that double the channels."""
    layers, width = [], 1
    for index in range(cells):
        reduce = index in (cells // 3, 2 * cells // 3)
        width *= 2 if reduce else 1
        layers.append(Layer("reduce" if reduce else "normal", width, width))
    return tuple(layers)


DARTS = Space(
    name="darts",
    family="darts",
    cells={
        "normal": CellSpec(inputs=2, edges=EDGES, candidates=(OPERATIONS,) * len(EDGES)),
        "reduce": CellSpec(inputs=2, edges=EDGES, candidates=(OPERATIONS,) * len(EDGES), stride=2),
    },
    operations=OPERATIONS,
    kept_edges=2,
    skeleton=skeleton,
    pool_norm=True,
    decodes_none=False,
    min_cells=3,
)
