"""A found cell: its value, the text forms that the field prints, and its JSON file."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midas.spaces import SPACES

Node = tuple[tuple[str, int], ...]
"""The kept incoming edges of one node: (operation, source node) pairs, ordered by source."""


@dataclass(frozen=True)
class Genotype:
    """The discrete cells of one architecture.

    Attributes:
        space: the space whose networks its cells form (`Space.networks`): "nas_bench_201" (one cell, all edges kept), "darts"
            (normal and reduction cell; S1 to S4 too), or one with networks of its own.
        cells: kind of cell -> its intermediate nodes in order. Nodes are numbered with the cell's inputs first, so that the
            first intermediate node is 1 in NAS-Bench-201 and 2 in DARTS.
    """

    space: str
    cells: dict[str, tuple[Node, ...]]

    def __str__(self) -> str:
        """The form that the field prints: NAS-Bench-201's string, DARTS's ``Genotype(normal=[...], ...)``.

        In the latter, edges are listed node by node where one has not two, and a kind of cell is left out that its space lacks.
        """
        if self.family == "nas_bench_201":
            texts = ("|".join(f"{operation}~{source}" for operation, source in node) for node in self.cells["cell"])
            return "+".join(f"|{text}|" for text in texts)
        parts = []
        for kind, nodes in self.cells.items():
            pairs = all(len(node) == 2 for node in nodes)
            edges = [edge for node in nodes for edge in node] if pairs else [list(node) for node in nodes]
            parts += [f"{kind}={edges}", f"{kind}_concat={self.nodes(kind)}"]
        return f"Genotype({', '.join(parts)})"

    @property
    def family(self) -> str:
        """Family of its space, which its form is of: "nas_bench_201" or "darts"."""
        return SPACES[self.space].family

    def reached(self, kind: str) -> list[int]:
        """The intermediate nodes of a kind of cell that have inputs."""
        first = SPACES[self.space].cells[kind].inputs
        return [number for number, node in enumerate(self.cells[kind], start=first) if node]

    def nodes(self, kind: str) -> list[int]:
        """Those of them that a cell of the DARTS family puts out side by side."""
        spec = SPACES[self.space].cells[kind]
        return [node for node in self.reached(kind) if spec.outputs is None or node in spec.put_out]

    def save(self, path: Path) -> None:
        """Write the JSON form, which also carries the text form for readers."""
        path.write_text(json.dumps({"space": self.space, "text": str(self), "cells": self.cells}, indent=1) + "\n")

    def edges(self, kind: str) -> list[tuple[int, int, str]]:
        """Kept edges of a kind of cell as (source, target, operation)."""
        first = SPACES[self.space].cells[kind].inputs
        return [(s, first + i, op) for i, node in enumerate(self.cells[kind]) for op, s in node]


def load(path: Path) -> Genotype:
    """Read a genotype file that `Genotype.save` wrote.

    Raises:
        ValueError: the file is missing, isn't such a JSON document, or holds what `parse` refuses.
    """
    try:
        content = json.loads(path.read_text())
        cells = {kind: tuple(_node(node) for node in nodes) for kind, nodes in content["cells"].items()}
        space = str(content["space"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a genotype file (JSON with the keys space and cells): {error}") from error
    return _checked(Genotype(space, cells), str(path))


def parse(text: str, space: str = "darts") -> Genotype:
    """Read either text form of the field, alone or within an assignment or a line of a log; nothing is evaluated.

    Args:
        text: a form.
        space: of the DARTS family, whose networks cells in DARTS's form are of; the form doesn't say it.

    Raises:
        ValueError: there is no such space, the text holds neither form or several, an operation that no space of that form has,
            or a source that isn't the number of a node before its target.
    """
    forms = [known.networks for known in SPACES.values() if known.family == "darts"]
    if space not in forms:
        raise ValueError(f"space {space!r} is not allowed; allowed: {', '.join(dict.fromkeys(forms))}")
    text = text.strip()
    if text.startswith("|"):
        return _parse_nas_bench_201(text)
    calls, cells = _calls(text), _CELL.findall(text)
    if len(calls) + len(cells) > 1:
        raise ValueError(f"not a genotype: {text!r} holds {len(calls) + len(cells)}; one is wanted")
    return _parse_nas_bench_201(cells[0]) if cells else _parse_darts(calls[0] if calls else text, space)


_NODE = r"\|(?:\w+~\d+\|)+"
_CELL = re.compile(rf"(?<![\w|~+]){_NODE}(?:\+{_NODE})*(?![\w|~+])")


def _calls(text: str) -> list[str]:
    """Each ``Genotype(...)`` in a text, to the bracket that closes it, or to the end where none does."""
    calls = []
    for start in re.finditer(r"\bGenotype\(", text):
        depth, end = 0, len(text)
        for place in range(start.end() - 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[place], 0)
            if depth == 0:
                end = place + 1
                break
        calls.append(text[start.start() : end])
    return calls


def _parse_nas_bench_201(text: str) -> Genotype:
    nodes = []
    for node in text.split("+"):
        if not re.fullmatch(_NODE, node):
            raise ValueError(f"not a NAS-Bench-201 cell: {text!r}; expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
        nodes.append(_node((op, int(source)) for op, source in re.findall(r"(\w+)~(\d+)", node)))
    return _checked(Genotype("nas_bench_201", {"cell": tuple(nodes)}), text)


def _parse_darts(text: str, space: str) -> Genotype:
    first, *others = SPACES[space].cells
    form = f"Genotype({first}=[('op', source), ...], {first}_concat={list(SPACES[space].cells[first].put_out)}"
    form += "".join(f", {kind}=[...], {kind}_concat=[...]" for kind in others) + ")"
    try:
        call = ast.parse(text, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("no Genotype(...)")
        fields = {k.arg: _literal(k.value) for k in call.keywords}
        cells = {}
        for kind in (first, *others):
            edges = list(fields[kind])
            each = any(len(edge) == 0 or isinstance(edge[0], list | tuple) for edge in edges)  # a list for each node
            nodes = tuple(
                _node(node) for node in (edges if each else (edges[i : i + 2] for i in range(0, len(edges), 2)))
            )
            put_out = Genotype(space, {kind: nodes}).nodes(kind)
            if list(fields[f"{kind}_concat"]) != put_out:
                count = SPACES[space].cells[kind].outputs
                which = f"{put_out}, of the last {count}" if count else f"all {len(nodes)}"
                raise ValueError(f"{kind}_concat must name {which} intermediate nodes")
            if not each and len(edges) % 2:
                raise ValueError(f"a node of the {kind} cell has one edge; list the edges node by node")
            cells[kind] = nodes
    except (SyntaxError, KeyError, TypeError, IndexError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"not a DARTS genotype: {text!r} ({error}); expected {form}") from error
    return _checked(Genotype(space, cells), " ".join(text.split()))


def _node(edges: Iterable[Any]) -> Node:
    """Edges ordered by source.

    Raises:
        TypeError, ValueError: one is no pair of an operation and the number of a node.
    """
    pairs = []
    for operation, source in edges:
        if not isinstance(operation, str) or type(source) is not int:
            raise ValueError(f"({operation!r}, {source!r}) is not allowed; an operation and the number of a node")
        pairs.append((operation, source))
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


MOST_NODES = 100
"""Of a range that is read; a longer one names no cell's nodes, and may not fit into memory."""
NUMPY = re.compile(r"u?int(8|16|32|64|p|_)?|str_")
"""Types by which NumPy 2 prints what was in an array, e.g. ``np.int64(2)``."""


class _Plain(ast.NodeTransformer):
    """Puts a literal in the place of ``np.int64(2)``, and a list in that of ``range(2, 6)``, which DARTS's own code prints."""

    def visit_Call(self, call: ast.Call) -> ast.AST:
        self.generic_visit(call)
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        values = [ast.literal_eval(argument) for argument in call.args]
        if name == "range" and not call.keywords:
            return ast.List([ast.Constant(number) for number in range(*values)[:MOST_NODES]], ast.Load())
        if (NUMPY.fullmatch(name) or name in ("list", "tuple")) and len(values) == 1 and not call.keywords:
            return call.args[0]
        raise ValueError(f"{name or 'a call'}(...) is not read")


def _literal(value: ast.expr) -> Any:
    return ast.literal_eval(_Plain().visit(value))


def _checked(genotype: Genotype, origin: str) -> Genotype:
    family = [space for space in SPACES.values() if space.networks == genotype.space]
    if not family or set(genotype.cells) != set(family[0].cells):
        raise ValueError(f"{origin}: space {genotype.space!r} with cells {sorted(genotype.cells)} is no known form")
    known = dict.fromkeys(operation for space in family for operation in space.operations)
    for kind in genotype.cells:
        for source, target, operation in genotype.edges(kind):
            if not 0 <= source < target:
                raise ValueError(
                    f"{origin}: node {target} of the {kind} cell can't take {operation} from node {source}"
                )
            if operation not in known:
                raise ValueError(
                    f"{origin}: operation {operation!r} is not allowed; in {genotype.space}: {', '.join(known)}"
                )
    if (
        genotype.family == "nas_bench_201"
    ):  # a DARTS node may take one node twice, as some of NASNet's published cell do
        for target, node in enumerate(genotype.cells["cell"], start=1):
            if (sources := [source for _, source in node]) != list(range(target)):
                raise ValueError(
                    f"{origin}: node {target} takes nodes {sources}; it must take each node before it once"
                )
    return genotype


def check_nodes(genotype: Genotype) -> None:
    """Whether a network can be built of a genotype.

    Raises:
        ValueError: a cell has not as many nodes, or a node not as many edges, as in its space (of DARTS's one may have fewer, and
            none, if no other node reads it); or a cell puts out no node.
    """
    space = SPACES[genotype.space]
    for kind, spec in space.cells.items():
        found = [len(node) for node in genotype.cells[kind]]
        expected = [space.kept_edges or len(spec.incoming(node)) for node in spec.nodes]
        fewer = space.kept_edges is not None and len(found) == len(expected) and len(genotype.nodes(kind)) > 0
        if found != expected and not (fewer and all(a <= b for a, b in zip(found, expected, strict=True))):
            raise ValueError(f"{kind} cell: its nodes have {found} edges; in {space.name} they have {expected}")
        there = {*range(spec.inputs), *genotype.reached(kind)}
        for source, target, operation in genotype.edges(kind):
            if source not in there:
                raise ValueError(f"{kind} cell: node {target} takes {operation} from node {source}, which has no edges")
