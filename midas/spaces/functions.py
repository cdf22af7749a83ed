"""A space of another kind: nodes are numbers, operations are functions of one number, a cell is an equation (AutoRA's DARTS).

Definitions: AutoResearch/autora-theorist-darts (operations.py). The forms that torch computes are in `midas.functions.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from midas.files.naming import among
from midas.spaces.space import CellSpec, Layer, Space

FORMS: dict[str, tuple[str, str]] = {
    "relu": ("ReLU({})", r"\mathrm{{ReLU}}\left({}\right)"),
    "logistic": ("logistic({})", r"\sigma\left({}\right)"),
    "exp": ("exp({})", r"e^{{{}}}"),
    "cos": ("cos({})", r"\cos\left({}\right)"),
    "sin": ("sin({})", r"\sin\left({}\right)"),
    "tanh": ("tanh({})", r"\tanh\left({}\right)"),
    "reciprocal": ("1 / {}", r"\frac{{1}}{{{}}}"),
    "ln": ("ln({})", r"\ln\left({}\right)"),
    "softplus": ("softplus({})", r"\mathrm{{softplus}}\left({}\right)"),
    "softminus": ("softminus({})", r"\mathrm{{softminus}}\left({}\right)"),
}
"""Function of one number -> how it is written, as text and in LaTeX, around its argument."""


@dataclass(frozen=True)
class Primitive:
    """An operation on one number x.

    Attributes:
        name: as a configuration has it; `linear_f` is the function f of a x + b, or of a x.
        function: the key of `FORMS`, None for what is linear in x or 0.
        parameters: coefficients that it learns: `slope` a, `bias` b, `beta` (of softplus and softminus).
    """

    name: str
    function: str | None
    parameters: tuple[str, ...] = ()

    @property
    def complexity(self) -> int:
        """What the drift of the architecture counts: 0 for "none", else 1 and a further 1 for each parameter."""
        return 0 if self.name == "none" else 1 + len(self.parameters)

    def label(self, values: Mapping[str, float], x: str = "x", latex: bool = False, digits: int = 2) -> str:
        """The operation as a term of a sum.

        Args:
            values: of its parameters, by name.
            x: how its argument is written.
            latex: whether LaTeX is wanted, or text.
            digits: decimals.
        """
        if self.name in ("none", "add", "subtract"):
            return {"none": "", "add": f"+ {x}", "subtract": f"- {x}"}[self.name]
        inner, times = x, r" \cdot " if latex else " * "
        if "slope" in self.parameters:
            inner = f"{values['slope']:.{digits}f}{times}{x}"
        if "bias" in self.parameters:
            inner += f" {'-' if values['bias'] < 0 else '+'} {abs(values['bias']):.{digits}f}"
        if self.function is None:
            return inner
        if "beta" in self.parameters:
            inner += f", {values['beta']:.{digits}f}"
        if self.function == "reciprocal" and self.parameters and not latex:
            inner = f"({inner})"
        return FORMS[self.function][latex].format(inner)


def _primitives() -> dict[str, Primitive]:
    found = [Primitive(name, None) for name in ("none", "add", "subtract")]
    found += [Primitive("mult", None, ("slope",)), Primitive("linear", None, ("slope", "bias"))]
    for name in FORMS:
        own = ("beta",) if name in ("softplus", "softminus") else ()
        inside = ("slope",) if own or name in ("reciprocal", "ln") else ("slope", "bias")
        found += [Primitive(name, name, own), Primitive(f"linear_{name}", name, inside + own)]
    return {primitive.name: primitive for primitive in found}


PRIMITIVES = _primitives()
"""By name. `reciprocal` is infinite at 0; `ln` is 0 where x is not positive; within it, the reciprocal,
softplus and softminus, `linear_` has no bias. Softplus is ln(1 + exp(beta x)) / beta, softminus x less that."""

DEFAULT = ("none", "add", "subtract", "linear", "linear_logistic", "mult", "linear_relu")
"""Those that are offered unless others are named."""


def check_primitives(names: Sequence[str]) -> None:
    """Whether these can be offered.

    Raises:
        ValueError: one does not exist, there is none, or one is named twice.
    """
    if isinstance(names, str):
        raise ValueError(f"primitives: {names!r} is not allowed; a list of names")
    for name in names:
        if name not in PRIMITIVES:
            raise ValueError(f"primitives: {name!r} does not exist{among(name, PRIMITIVES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"primitives: {list(names)!r} is not allowed; at least one, and each once")


def one_cell(cells: int) -> tuple[Layer, ...]:
    """The skeleton: a single cell."""
    return (Layer("cell", 1, 1),) * cells


def function_space(primitives: Sequence[str], inputs: int, nodes: int) -> Space:
    """Sums of primitives of inputs and earlier nodes.

    Args:
        primitives: names of the operations that every edge offers, in the order of the architecture's columns.
        inputs: how many numbers a function takes: nodes 0 .. inputs - 1.
        nodes: how many sums there are; their sum is the function's value.

    Raises:
        ValueError: see `check_primitives`; or there are no nodes.
    """
    check_primitives(primitives)
    if nodes < 1:
        raise ValueError(f"nodes: {nodes} is not allowed; at least 1")
    operations = tuple(primitives)
    edges = tuple((source, target) for target in range(inputs, inputs + nodes) for source in range(target))
    spec = CellSpec(inputs, edges, (operations,) * len(edges))
    return Space("functions", "functions", {"cell": spec}, operations, None, one_cell, False, True)


def chosen_space(space: Space, operations: Sequence[str]) -> Space:
    """The space that offers a single operation on each edge: what is left of `space` once a cell is decoded."""
    spec = replace(space.cells["cell"], candidates=tuple((operation,) for operation in operations))
    return replace(space, cells={"cell": spec})
