"""NAS-Bench-201 (Dong and Yang, ICLR 2020): four nodes, six edges, five operations, all edges kept."""

from midas.spaces.space import CellSpec, Layer, Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((source, target) for target in range(1, 4) for source in range(target))


def skeleton(cells: int) -> tuple[Layer, ...]:
    """Three stages of `cells` cells, with a residual block of stride 2 between them."""
    stages = [(Layer("cell", 2**stage, 2**stage),) * cells for stage in range(3)]
    return (*stages[0], Layer("residual", 2, 2), *stages[1], Layer("residual", 4, 4), *stages[2])


NAS_BENCH_201 = Space(
    name="nas_bench_201",
    family="nas_bench_201",
    cells={"cell": CellSpec(inputs=1, edges=EDGES, candidates=(OPERATIONS,) * len(EDGES))},
    operations=OPERATIONS,
    kept_edges=None,
    skeleton=skeleton,
    pool_norm=False,
    decodes_none=True,
)
