"""The supernet of the space of functions: its operations on numbers, and what stands around its only cell.

All else is that of images: a number is a map of one pixel and one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.spaces import Space
from midas.spaces.functions import PRIMITIVES
from midas.supernet import Supernet
from midas.supernet.cell import SearchCell
from midas.supernet.mixture import Candidate
from midas.supernet.weights import Mixing, NodeSlots, Skips, Weights


def logarithm(x: Tensor) -> Tensor:
    """Natural logarithm of x, 0 where x is not positive; so is the gradient there."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).log(), torch.zeros_like(x))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "logistic": torch.sigmoid,
    "exp": torch.exp,
    "cos": torch.cos,
    "sin": torch.sin,
    "tanh": torch.tanh,
    "reciprocal": torch.reciprocal,
    "ln": logarithm,
    "softplus": F.softplus,
    "softminus": lambda x: x - F.softplus(x),
}


class Operation(nn.Module):
    """One primitive on n edges, each with coefficients of its own: slope and bias drawn as `nn.Linear` draws them, beta 1.

    Args:
        name: of the primitive.
        edges: n.

    Attributes:
        coefficients: by name, each [n].
    """

    normalised = False

    def __init__(self, name: str, edges: int):
        super().__init__()
        primitive = PRIMITIVES[name]
        self.name, self.function = name, primitive.function
        self.coefficients = nn.ParameterDict()
        for one in primitive.parameters:
            drawn = torch.ones(edges) if one == "beta" else torch.empty(edges).uniform_(-1, 1)
            self.coefficients[one] = nn.Parameter(drawn)

    def forward(self, raw: Tensor, active: Tensor, wide: Tensor | None) -> Tensor:
        """Numbers [B, n, 1, 1], or [B, 1, 1, 1] for all edges where there are no coefficients, of numbers [B, 1, 1, 1]."""
        own = {name: values[:, None, None] for name, values in self.coefficients.items()}
        x = raw * own["slope"] if "slope" in own else raw
        x = x + own["bias"] if "bias" in own else x
        if self.name == "subtract":
            return -x
        if self.function is None:
            return x
        if "beta" in own:
            soft = F.softplus(own["beta"] * x) / own["beta"]
            return soft if self.function == "softplus" else x - soft
        return FUNCTIONS[self.function](x)


def make_operation(
    operation: str, channels: int, edges: int, stride: int, pool_norm: bool, fast: bool = True
) -> nn.Module:
    """The module of one primitive on n edges, as `midas.supernet.operations.make_candidate` makes those of images."""
    return Operation(operation, edges)


def mix_numbers(
    weights: Weights, slots: NodeSlots, candidates: Sequence[Candidate], skips: Skips | None = None
) -> Tensor:
    """A node's number [B, 1, 1, 1] from its candidates', as `mix_images`, in one product: calls cost more than work here."""
    values = torch.cat([candidate.raw for candidate in candidates], 1)
    mixed = (values * weights.share[:, :, None, None]).sum(1, keepdim=True)
    return mixed if skips is None else skips.onto_map(mixed)


class Summed(nn.Module):
    """The cell's nodes added up, with nothing to learn: the original's linear head has weights of 1 that stay.

    Args:
        cell: maps from the inputs' numbers, each [B, 1, 1, 1], to those of its nodes [B, nodes, 1, 1].
    """

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cells = nn.ModuleList([cell])

    def forward(self, x: Tensor) -> Tensor:
        """Values [B, 1] of inputs [B, d]."""
        nodes = self.cells[0](*(column[:, None, None, None] for column in x.unbind(1)))
        return nodes.flatten(1).sum(1, keepdim=True)


class FunctionNetwork(Supernet):
    """All functions of a space in one network; of a space with one operation an edge, that function.

    Args:
        space: see `function_space` and `chosen_space`.
        mixing: of a method.
    """

    make_candidate = staticmethod(make_operation)

    def __init__(self, space: Space, mixing: Mixing):
        super().__init__(space, mixing, 1, 1, 1, merged=True, fast=False)

    def _make_skeleton(self, channels: int, cells: int, classes: int) -> nn.Module:
        return Summed(self._make_cell("cell", (1,) * self.space.cells["cell"].inputs, 1, False))

    @property
    def cell(self) -> SearchCell:
        """The only one."""
        return self.cells[0]

    def operation(self, edge: int, name: str) -> dict[str, Tensor]:
        """Coefficients [1] of an operation of an edge by name, parts of the parameters that hold them; none of "none"."""
        if name == "none":
            return {}
        found = self.parameters_of(0, edge, name)
        return {one: parameter[part] for one, (parameter, part) in zip(PRIMITIVES[name].parameters, found, strict=True)}

    @torch.no_grad()
    def take_coefficients(self, other: FunctionNetwork) -> None:
        """Take those of another network of the same edges, which offers this one's operations."""
        for edge, names in enumerate(self.space.cells["cell"].candidates):
            for name in names:
                theirs = other.operation(edge, name)
                for one, value in self.operation(edge, name).items():
                    value.copy_(theirs[one])
