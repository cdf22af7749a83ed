"""A found cell: its value, the text forms that the field prints, and its JSON file."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

Node = tuple[tuple[str, int], ...]
"""The kept incoming edges of one node: (operation, source node) pairs, ordered by source."""


@dataclass(frozen=True)
class Genotype:
    """The discrete cells of one architecture.

    Attributes:
        space: family of the text form, "nas_bench_201" (one cell, all edges kept) or "darts" (normal and reduction cell).
        cells: kind of cell -> its intermediate nodes in order. Nodes are numbered with the cell's inputs first, so that the
            first intermediate node is 1 in NAS-Bench-201 and 2 in DARTS.
    """

    space: str
    cells: dict[str, tuple[Node, ...]]

    def __str__(self) -> str:
        """The form that the field prints: NAS-Bench-201's string, DARTS's ``Genotype(normal=[...], ...)``."""
        if self.space == "nas_bench_201":
            texts = ("|".join(f"{operation}~{source}" for operation, source in node) for node in self.cells["cell"])
            return "+".join(f"|{text}|" for text in texts)
        parts = []
        for kind in ("normal", "reduce"):
            nodes = self.cells[kind]
            parts.append(f"{kind}={[edge for node in nodes for edge in node]}")
            parts.append(f"{kind}_concat={list(range(2, 2 + len(nodes)))}")
        return f"Genotype({', '.join(parts)})"

    def save(self, path: Path) -> None:
        """Write the JSON form, which also carries the text form for readers."""
        path.write_text(json.dumps({"space": self.space, "text": str(self), "cells": self.cells}, indent=1) + "\n")

    def edges(self, kind: str) -> list[tuple[int, int, str]]:
        """Kept edges of a kind of cell as (source, target, operation)."""
        first = 1 if self.space == "nas_bench_201" else 2
        return [(s, first + i, op) for i, node in enumerate(self.cells[kind]) for op, s in node]


def load(path: Path) -> Genotype:
    """Read a genotype file that `Genotype.save` wrote.

    Raises:
        ValueError: the file is missing or isn't such a JSON document.
    """
    try:
        content = json.loads(path.read_text())
        cells = {
            kind: tuple(tuple((str(op), int(source)) for op, source in node) for node in nodes)
            for kind, nodes in content["cells"].items()
        }
        space = content["space"]
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a genotype file (JSON with the keys space and cells): {error}") from error
    return _checked(Genotype(space, cells), str(path))


def parse(text: str) -> Genotype:
    """Read either text form of the field; nothing is evaluated.

    Raises:
        ValueError: the text is neither form, or a source isn't a node before its target.
    """
    text = text.strip()
    return _parse_nas_bench_201(text) if text.startswith("|") else _parse_darts(text)


def _parse_nas_bench_201(text: str) -> Genotype:
    nodes = []
    for node in text.split("+"):
        if not re.fullmatch(r"\|(\w+~\d+\|)+", node):
            raise ValueError(f"not a NAS-Bench-201 cell: {text!r}; expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
        nodes.append(tuple((op, int(source)) for op, source in re.findall(r"(\w+)~(\d+)", node)))
    return _checked(Genotype("nas_bench_201", {"cell": tuple(nodes)}), text)


def _parse_darts(text: str) -> Genotype:
    form = "Genotype(normal=[('op', source), ...], normal_concat=[2, 3, 4, 5], reduce=[...], reduce_concat=[...])"
    try:
        call = ast.parse(text, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("no Genotype(...)")
        fields = {k.arg: _literal(k.value) for k in call.keywords}
        cells = {}
        for kind in ("normal", "reduce"):
            edges = [(str(op), int(source)) for op, source in fields[kind]]
            nodes = tuple(tuple(sorted(edges[i : i + 2], key=lambda e: e[1])) for i in range(0, len(edges), 2))
            if list(fields[f"{kind}_concat"]) != list(range(2, 2 + len(nodes))):
                raise ValueError(f"{kind}_concat must name all {len(nodes)} intermediate nodes")
            cells[kind] = nodes
    except (SyntaxError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a DARTS genotype: {text!r} ({error}); expected {form}") from error
    return _checked(Genotype("darts", cells), text)


def _literal(node: ast.expr) -> list:
    """A literal list, or the ``range(2, 6)`` that DARTS's own code prints."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        return list(range(*(ast.literal_eval(argument) for argument in node.args)))
    return ast.literal_eval(node)


def _checked(genotype: Genotype, origin: str) -> Genotype:
    kinds = {"nas_bench_201": {"cell"}, "darts": {"normal", "reduce"}}.get(genotype.space)
    if kinds is None or set(genotype.cells) != kinds:
        raise ValueError(f"{origin}: space {genotype.space!r} with cells {sorted(genotype.cells)} is no known form")
    for kind in genotype.cells:
        for source, target, operation in genotype.edges(kind):
            if not 0 <= source < target:
                raise ValueError(
                    f"{origin}: node {target} of the {kind} cell can't take {operation} from node {source}"
                )
    return genotype
