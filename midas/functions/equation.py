"""A decoded function as an equation, in text and in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from midas.spaces.functions import PRIMITIVES


class Edge(NamedTuple):
    """An operation of a decoded function.

    Attributes:
        source: number of the node that it reads; inputs come first.
        target: number of the node that it is a summand of.
        operation: name of the primitive.
        values: its coefficients by name.
    """

    source: int
    target: int
    operation: str
    values: Mapping[str, float]


def equation(
    edges: Sequence[Edge],
    inputs: Sequence[str],
    output: str = "y",
    latex: bool = False,
    sigmoid: bool = False,
    digits: int = 2,
) -> str:
    """A line for each node and one for the output, or a single one where there is one node.

    Args:
        edges: ordered by target and then by source.
        inputs: names of the inputs.
        output: name of the output.
        latex: whether LaTeX is wanted (an environment `aligned` where there are several lines), or text.
        sigmoid: whether the output is the sigmoid of the nodes' sum.
        digits: decimals of the coefficients.
    """
    nodes = sorted({edge.target for edge in edges})
    names = [_latex_name(name) for name in inputs] if latex else list(inputs)
    names += [f"k_{{{i + 1}}}" if latex else f"k{i + 1}" for i in range(len(nodes))]
    sums = [
        _sum(
            [PRIMITIVES[e.operation].label(e.values, names[e.source], latex, digits) for e in edges if e.target == node]
        )
        for node in nodes
    ]
    lines = [] if len(nodes) == 1 else [(names[node], found) for node, found in zip(nodes, sums, strict=True)]
    value = sums[0] if len(nodes) == 1 else " + ".join(names[node] for node in nodes)
    if sigmoid:
        value = PRIMITIVES["logistic"].label({}, value, latex)
    lines.append((_latex_name(output) if latex else output, value))
    if not latex:
        return "\n".join(f"{name} = {found}" for name, found in lines)
    if len(lines) == 1:
        return f"{lines[0][0]} = {lines[0][1]}"
    body = " \\\\\n".join(f"{name} &= {found}" for name, found in lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _sum(terms: Sequence[str]) -> str:
    """Terms that may begin with a sign, as one sum; 0 where all are empty."""
    found = ""
    for term in filter(None, terms):
        sign, rest = (term[0], term[1:].lstrip()) if term[0] in "+-" else ("+", term)
        if found:
            found += f" {sign} {rest}"
        else:
            found = rest if sign == "+" else f"-{rest}"
    return found or "0"


def _latex_name(name: str) -> str:
    """x1 as x_{1}; other names upright."""
    head, digits = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")) :]
    if len(head) == 1 and head.isalpha():
        return f"{head}_{{{digits}}}" if digits else head
    return rf"\mathrm{{{name}}}".replace("_", r"\_").replace("%", r"\%").replace("#", r"\#").replace("&", r"\&")
