"""Drawing of found cells: nodes on one line, kept edges as arcs above and below it that cross as little as can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from midas.analysis.figures.style import COLOURS, GREY, node_label, operation_label
from midas.spaces.genotype import Genotype

Edge = tuple[int, int, str]
"""Source node, target node, operation."""

STEP = 1.12
"""Distance between nodes; all lengths are in inches."""
RADIUS = 0.145
LEVEL = 0.34
"""Height of the lowest arc's apex above the line, and of each further level of arcs above it."""
MARGIN = 0.14


@dataclass(frozen=True)
class Layout:
    """Where a cell's nodes and edges lie.

    Attributes:
        order: the nodes from left to right.
        levels: level of each edge's arc: above the line 1, 2, ..., below it -1, -2, ..., 0 straight to the next node.
        crossings: number of pairs of arcs that cross.
    """

    order: tuple[int, ...]
    levels: tuple[int, ...]
    crossings: int

    @property
    def top(self) -> int:
        """Levels above the line."""
        return max(0, *self.levels)

    @property
    def bottom(self) -> int:
        """Levels below the line."""
        return max(0, *(-level for level in self.levels))


def arrange(edges: Sequence[Edge], inputs: int) -> Layout:
    """Arrange a cell as well as can be.

    Of all arrangements that with the fewest crossings; of those with as many, that which disturbs the natural order of
    the nodes least, then has the fewest arcs that reach a node side by side, then is the flattest.

    Args:
        edges: the kept edges; each goes to a node that comes later in every order.
        inputs: number of input nodes; they stay on the left.
    """
    nodes = sorted({target for _, target, _ in edges})  # one without edges is no part of the cell
    best: tuple[tuple[int, ...], Layout] | None = None
    for order in _orders(edges, inputs, nodes):
        place = {node: position for position, node in enumerate(order)}
        spans = [(place[source], place[target]) for source, target, _ in edges]
        inversions = sum(a > b for a, b in combinations(order, 2))
        for sides in _sides(spans):
            crossings = _crossings(spans, sides)
            if best is None or crossings <= best[0][0]:
                layout = Layout(order, _levels(spans, sides), crossings)
                merging = len(spans) - len({(end, side) for (_, end), side in zip(spans, sides, strict=True)})
                height = layout.top + layout.bottom, sum(map(abs, layout.levels)), layout.bottom
                cost = (crossings, inversions, merging, *height)
                if best is None or cost < best[0]:
                    best = cost, layout
    assert best is not None  # edges go forward, so the order 0, 1, 2, ... is among those tried
    return best[1]


def _orders(edges: Sequence[Edge], inputs: int, nodes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the orders in which every edge goes to the right."""
    for first in permutations(range(inputs)):
        for rest in permutations(nodes):
            order = first + rest
            if all(order.index(source) < order.index(target) for source, target, _ in edges):
                yield order


def _sides(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yield all ways to put arcs above (1) or below (-1) the line; edges to the next node lie on it (0), one from each."""
    straight = [end - start == 1 and (start, end) not in spans[:i] for i, (start, end) in enumerate(spans)]
    return product(*([0] if lies else [1, -1] for lies in straight))


def _crossings(spans: Sequence[tuple[int, int]], sides: Sequence[int]) -> int:
    arcs = [(*span, side) for span, side in zip(spans, sides, strict=True) if side]
    arcs.sort()
    return sum(a[2] == b[2] and a[0] < b[0] < a[1] < b[1] for a, b in combinations(arcs, 2))


def _levels(spans: Sequence[tuple[int, int]], sides: Sequence[int]) -> tuple[int, ...]:
    """Levels such that an arc lies above every shorter one that it overlaps."""
    levels = [0] * len(spans)
    for i in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], i)):
        start, end = spans[i]
        below = [
            abs(levels[k])
            for k in range(len(spans))
            if sides[k] == sides[i] and levels[k] and spans[k][0] < end and start < spans[k][1]
        ]
        levels[i] = sides[i] * (1 + max(below, default=0))
    return tuple(levels)


def cell_size(genotype: Genotype, kind: str) -> tuple[float, float]:
    """Width and height of a cell's drawing in inches."""
    layout = arrange(genotype.edges(kind), _inputs(genotype))
    x, y = _limits(genotype, layout)
    return x[1] - x[0], y[1] - y[0]


def draw_cell(ax: Axes, genotype: Genotype, kind: str) -> None:
    """Draw one cell; the axes get its size in inches as limits."""
    edges = genotype.edges(kind)
    layout = arrange(edges, _inputs(genotype))
    place = {node: position * STEP for position, node in enumerate(layout.order)}
    if genotype.family == "darts":
        _draw_output(ax, len(layout.order), _inputs(genotype))
    for (source, target, operation), level in zip(edges, layout.levels, strict=True):
        _draw_edge(ax, place[source], place[target], level, operation)
    for node, x in place.items():
        face = "#E4E4E4" if node < _inputs(genotype) else "white"
        ax.add_patch(Circle((x, 0), RADIUS, facecolor=face, edgecolor="black", linewidth=0.8, zorder=5))
        label = node_label(genotype.family, node)
        ax.text(x, 0, label, ha="center", va="center_baseline", fontsize=8, zorder=6, parse_math=True)
    x_limits, y_limits = _limits(genotype, layout)
    ax.set(xlim=x_limits, ylim=y_limits, aspect="equal")
    ax.axis("off")


def _inputs(genotype: Genotype) -> int:
    return 2 if genotype.family == "darts" else 1


def _limits(genotype: Genotype, layout: Layout) -> tuple[tuple[float, float], tuple[float, float]]:
    right = (len(layout.order) - 1) * STEP + RADIUS + (0.85 if genotype.family == "darts" else 0.0)
    top, bottom = (0.3 + LEVEL * levels if levels else 0.3 for levels in (layout.top, layout.bottom))
    return (-RADIUS - 0.03, right + 0.03), (-bottom - MARGIN, top + MARGIN)


def _draw_output(ax: Axes, nodes: int, inputs: int) -> None:
    """A grey band around the intermediate nodes: their maps, concatenated, are the cell's output."""
    left, right = inputs * STEP - 0.24, (nodes - 1) * STEP + 0.24
    band = FancyBboxPatch((left, -0.2), right - left, 0.4, boxstyle="round,pad=0,rounding_size=0.2")
    band.set(facecolor="#F1F1F1", edgecolor="#C8C8C8", linewidth=0.6, zorder=0)
    ax.add_patch(band)
    end = right + 0.27
    arrow = FancyArrowPatch((right, 0), (end, 0), arrowstyle="-|>", mutation_scale=8, shrinkA=0, shrinkB=0)
    arrow.set_color(GREY)
    ax.add_patch(arrow)
    ax.text(end + 0.17, 0, "$c_k$", ha="center", va="center_baseline", fontsize=8, parse_math=True)


def _draw_edge(ax: Axes, start: float, end: float, level: int, operation: str) -> None:
    """An arrow whose label sits at its apex; `none` is dotted, since it carries nothing."""
    colour = COLOURS[operation]
    height = (0.3 * np.sign(level) + LEVEL * level) if level else 0.0
    points = _arc(start, end, height)
    style = ":" if operation == "none" else "-"
    arrow = FancyArrowPatch(path=Curve(points), arrowstyle="-|>", mutation_scale=8, linewidth=1.4, linestyle=style)
    arrow.set(color=colour, zorder=2 if level else 1, capstyle="butt", joinstyle="miter")
    ax.add_patch(arrow)
    box = {"boxstyle": "round,pad=0.22", "facecolor": "white", "edgecolor": colour, "linewidth": 0.9}
    label = operation_label(operation, short=True)
    ax.text((start + end) / 2, height, label, fontsize=7, ha="center", va="center", bbox=box, zorder=4)


def _arc(start: float, end: float, height: float) -> np.ndarray:
    """A cubic Bézier curve between two nodes' rims with its apex at `height`: [points, 2].

    The control points' horizontal distance from the ends doesn't depend on the span, so that of two arcs from one node
    the higher leaves it more steeply and they don't cross.
    """
    t = np.linspace(0, 1, 400)[:, None]
    lean = 0.3 if height else (end - start) / 3
    control = np.array([[start, 0], [start + lean, height * 4 / 3], [end - lean, height * 4 / 3], [end, 0]])
    bernstein = np.hstack([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3])
    curve = bernstein @ control
    from_ends = [np.hypot(curve[:, 0] - x, curve[:, 1]) for x in (start, end)]
    return curve[np.minimum(*from_ends) > RADIUS]
