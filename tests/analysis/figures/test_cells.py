"""Found cells are arranged without needless crossings, every edge with its operation in a colour of its own."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from drawn_figures import drawn, texts
from made_up_results import DARTS_CELL, NB201_CELL, make_config
from matplotlib.colors import to_rgb

from midas.analysis.figures import cells, style
from midas.analysis.figures.found_cells import draw_genotype
from midas.analysis.figures.style import operation_label
from midas.methods.decoding import random_genotype
from midas.plan.plan import Plan
from midas.spaces import SPACES
from midas.spaces.genotype import parse

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@pytest.mark.parametrize("text", [DARTS_V2, DARTS_CELL, NB201_CELL])
def test_published_cells_need_no_crossing(text: str) -> None:
    genotype = parse(text)
    for kind in genotype.cells:
        layout = cells.arrange(genotype.edges(kind), 2 if genotype.space == "darts" else 1)
        assert layout.crossings == 0


def test_nodes_without_edges_are_not_drawn() -> None:
    layout = cells.arrange([(1, 2, "skip_connect"), (2, 4, "skip_connect"), (0, 4, "max_pool_3x3")], 2)
    assert sorted(layout.order) == [0, 1, 2, 4]


def test_two_edges_of_one_source_are_drawn_apart() -> None:
    """A node may take one node twice, in cells that are decoded with edges pooled."""
    edges = [(0, 2, "skip_connect"), (1, 2, "skip_connect"), (2, 3, "max_pool_3x3"), (2, 3, "sep_conv_3x3")]
    edges += [(0, 4, "max_pool_3x3"), (0, 4, "sep_conv_3x3")]
    layout = cells.arrange(edges, 2)
    levels = dict(enumerate(layout.levels))
    assert levels[2] != levels[3]
    assert levels[4] != levels[5]
    assert layout.crossings == 0


def test_layout_counts_the_crossings_that_are_drawn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        edges = [(int(s), t, "skip_connect") for t in range(2, 6) for s in rng.choice(t, min(t, 3), replace=False)]
        layout = cells.arrange(edges, 2)
        place = {node: position * cells.STEP for position, node in enumerate(layout.order)}
        curves = [
            cells._arc(place[s], place[t], np.sign(level) * 0.3 + cells.LEVEL * level)
            for (s, t, _), level in zip(edges, layout.levels, strict=True)
        ]
        assert sum(_cross(a[::8], b[::8]) for a, b in itertools.combinations(curves, 2)) == layout.crossings


def _cross(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two curves given as polylines intersect."""
    p, q = a[:-1, None], a[1:, None]
    r, s = b[None, :-1], b[None, 1:]
    side = lambda o, u, v: np.sign((u - o)[..., 0] * (v - o)[..., 1] - (u - o)[..., 1] * (v - o)[..., 0])  # noqa: E731
    return bool(((side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)).any())


@pytest.mark.parametrize("text", [DARTS_V2, NB201_CELL])
def test_every_kept_edge_is_drawn_with_its_operation(text: str) -> None:
    genotype = parse(text)
    with matplotlib.rc_context(style.RC):
        found = texts(draw_genotype(genotype))
    expected = [style.operation_label(op, short=True) for kind in genotype.cells for *_, op in genotype.edges(kind)]
    assert sorted(text for text in found if text in set(expected)) == sorted(expected)


def test_operations_have_colours_that_differ_in_every_kind_of_vision() -> None:
    for space in SPACES.values():
        for a, b in itertools.combinations(space.operations, 2):
            assert min(_distance(a, b, vision) for vision in VISION.values()) > 20, (a, b)


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _distance(a: str, b: str, vision: np.ndarray) -> float:
    first, second = (_lab(np.array(to_rgb(style.COLOURS[name])), np.array(vision)) for name in (a, b))
    return float(np.linalg.norm(first - second))


def _lab(rgb: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour as someone with this vision sees it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("space", ["s1", "s4"])
def test_cells_of_the_robustdarts_spaces_have_figures_of_their_own(tmp_path: Path, space: str) -> None:
    config = make_config(tmp_path)
    experiments = [e.model_copy(update={"space": space}) for e in config.experiments if e.space == "darts"][:1]
    config = config.model_copy(update={"experiments": experiments, "analysis": None})
    plan = Plan(config)
    number = {"s1": 8, "s4": 11}[space]
    assert plan.figures() == [number]
    cell = plan.shown_cell(number)
    assert cell is not None
    folder = plan.cell_folder(cell) / "decode"
    folder.mkdir(parents=True)
    genotype = random_genotype(SPACES[space], 0)
    genotype.save(folder / "genotype.json")
    shown = " ".join(texts(drawn(number, config)))
    for kind in genotype.cells:
        for _, _, operation in genotype.edges(kind):
            assert operation_label(operation, short=True) in shown
