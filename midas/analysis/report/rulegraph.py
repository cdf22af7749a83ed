"""The graph of the workflow's rules, from Snakemake's ``--rulegraph dot`` to a drawing in SVG."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

Graph = dict[str, set[str]]
"""Rule -> the rules whose outputs it needs."""

GROUPS = (("table", "tables"), ("figure", "figures"))
"""Rules of one each for a table and a figure are drawn as one node."""

LEFT_OUT = {"all"}

HEIGHT, GAP_X, GAP_Y, PAD, CHARACTER = 30, 54, 22, 8, 7.4
"""Of a node, between nodes, around the drawing, and the width of a letter: in pixels."""
SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Where nodes are: name -> (left, middle, width); a name with a colon is a bend of an edge that crosses a layer."""

    places: dict[str, tuple[float, float, float]]
    paths: list[list[str]]
    width: float
    height: float


def read(dot: str) -> Graph:
    """The graph in Snakemake's dot.

    Raises:
        ValueError: there are no rules in it, or they need each other.
    """
    labels = dict(re.findall(r'(\d+)\s*\[\s*label\s*=\s*"([^"]+)"', dot))
    graph: Graph = {label: set() for label in labels.values()}
    for source, target in re.findall(r"(\d+)\s*->\s*(\d+)", dot):
        graph[labels[target]].add(labels[source])
    if not graph:
        raise ValueError("no rules; expected the output of snakemake --rulegraph dot")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise ValueError(f"the rules {', '.join(error.args[1])} need each other") from error
    return graph


def grouped(graph: Mapping[str, set[str]]) -> Graph:
    """The graph with the rules of all tables as one node, and those of all figures; without the target of everything."""
    names = {rule: _group(rule) for rule in graph if rule not in LEFT_OUT}
    merged: Graph = {name: set() for name in names.values()}
    for rule, name in names.items():
        merged[name] |= {names[source] for source in graph[rule] if source in names} - {name}
    return merged


def _group(rule: str) -> str:
    return next((name for prefix, name in GROUPS if re.fullmatch(rf"{prefix}_\d+", rule)), rule)


def reduced(graph: Mapping[str, set[str]]) -> Graph:
    """The graph without the edges that follow from others."""
    above: dict[str, set[str]] = {}
    for node in TopologicalSorter(graph).static_order():
        above[node] = set().union(*({source} | above[source] for source in graph[node]))
    return {
        node: {source for source in sources if not any(source in above[other] for other in sources - {source})}
        for node, sources in graph.items()
    }


def arrange(graph: Mapping[str, set[str]]) -> Layout:
    """Layers from left to right, each rule right of all that it needs, ordered so that few edges cross (Sugiyama et al. 1981)."""
    layer: dict[str, int] = {}
    for node in TopologicalSorter({name: sorted(sources) for name, sources in sorted(graph.items())}).static_order():
        layer[node] = 1 + max((layer[source] for source in graph[node]), default=-1)
    paths = [_bends(source, target, layer) for target in sorted(graph) for source in sorted(graph[target])]
    columns: list[list[str]] = [[] for _ in range(1 + max(layer.values()))]
    for name, depth in layer.items():
        columns[depth].append(name)
    neighbours: dict[str, list[str]] = {name: [] for name in layer}
    for path in paths:
        for left, right in pairwise(path):
            neighbours[left].append(right)
            neighbours[right].append(left)
    return _place(_ordered(columns, neighbours), paths)


def _bends(source: str, target: str, layer: dict[str, int]) -> list[str]:
    """The nodes on the way of an edge; its bends are entered into `layer`."""
    bends = [f"{source}:{target}:{depth}" for depth in range(layer[source] + 1, layer[target])]
    layer.update({bend: int(bend.rsplit(":", 1)[1]) for bend in bends})
    return [source, *bends, target]


def _ordered(columns: list[list[str]], neighbours: Mapping[str, list[str]]) -> list[list[str]]:
    """The columns sorted by the mean place of their neighbours in the column before, forth and back."""
    for sweep in range(SWEEPS):
        order = range(1, len(columns)) if sweep % 2 == 0 else range(len(columns) - 2, -1, -1)
        for index in order:
            fixed = columns[index - 1 if sweep % 2 == 0 else index + 1]
            place = {name: position - (len(fixed) - 1) / 2 for position, name in enumerate(fixed)}
            means = {}
            for name in columns[index]:
                near = [place[other] for other in neighbours[name] if other in place]
                means[name] = sum(near) / len(near) if near else 0.0
            columns[index] = sorted(columns[index], key=lambda name: (means[name], name))
    return columns


def _place(columns: list[list[str]], paths: list[list[str]]) -> Layout:
    tallest = max(map(len, columns))
    height = tallest * HEIGHT + (tallest - 1) * GAP_Y
    places, left = {}, float(PAD)
    for column in columns:
        width = max(_width(name) for name in column)
        top = PAD + (height - len(column) * HEIGHT - (len(column) - 1) * GAP_Y) / 2
        for position, name in enumerate(column):
            own = width if ":" in name else _width(name)
            places[name] = (left + (width - own) / 2, top + position * (HEIGHT + GAP_Y) + HEIGHT / 2, own)
        left += width + GAP_X
    return Layout(places, paths, left - GAP_X + PAD, height + 2 * PAD)


def _width(name: str) -> float:
    return 0.0 if ":" in name else 24 + CHARACTER * len(name)


def to_svg(dot: str, titles: Mapping[str, str] | None = None) -> str:
    """The drawing, in the colours of the page around it (its CSS classes: edge, node).

    Args:
        dot: output of ``snakemake --rulegraph dot``.
        titles: node -> what is written instead of its name.

    Raises:
        ValueError: there are no rules in it, or they need each other.
    """
    graph = reduced(grouped(read(dot)))
    names = {node: (titles or {}).get(node, node) for node in graph}
    layout = arrange({names[node]: {names[source] for source in sources} for node, sources in graph.items()})
    size = (
        f'width="{layout.width:.0f}" height="{layout.height:.0f}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}"'
    )
    edges = "".join(
        f'<path class="edge" marker-end="url(#arrow)" d="{_curve(path, layout)}"/>' for path in layout.paths
    )
    nodes = "".join(_node(name, *place) for name, place in layout.places.items() if ":" not in name)
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    return f'<svg class="rules" role="img" aria-label="Graph of the rules" {size}>{arrow}{edges}{nodes}</svg>'


def _curve(path: list[str], layout: Layout) -> str:
    """A line from the right of a node over bends to the left of the next."""
    first, *bends, last = (layout.places[name] for name in path)
    points = [(first[0] + first[2], first[1])]
    for left, middle, width in bends:
        points += [(left, middle), (left + width, middle)]
    points.append((last[0], last[1]))
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (x1 - x0) / 2
        text += f" C{x0 + half:.1f} {y0:.1f} {x1 - half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return text


def _node(name: str, left: float, middle: float, width: float) -> str:
    box = f'<rect x="{left:.1f}" y="{middle - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="5"/>'
    text = f'<text x="{left + width / 2:.1f}" y="{middle:.1f}" dy="0.35em">{html.escape(name)}</text>'
    return f'<g class="node">{box}{text}</g>'
