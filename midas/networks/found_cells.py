"""Found cells as modules: the edges that are kept, joined node by node.

Definitions: quark0/darts (cnn/model.py) for the DARTS family; D-X-Y/AutoDL-Projects (TinyNetwork) for NAS-Bench-201.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor, nn

from midas.networks.operations import FactorizedReduce, ReLUConvBN, make
from midas.spaces import SPACES
from midas.spaces.genotype import Genotype, Node


class Graph(nn.Module):
    """The intermediate nodes of a found cell: each is the sum of its incoming edges.

    Args:
        nodes: kept edges of each node.
        make_edge: operation and source node -> module.
    """

    def __init__(self, nodes: tuple[Node, ...], make_edge: Callable[[str, int], nn.Module]):
        super().__init__()
        self.sources = [[source for _, source in node] for node in nodes]
        self.edges = nn.ModuleList(make_edge(*edge) for node in nodes for edge in node)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Maps of the intermediate nodes that have edges from those of the input nodes."""
        states, edges = list(inputs), iter(self.edges)
        for sources in self.sources:
            found = [next(edges)(states[source]) for source in sources]
            states.append(reduce(operator.add, found) if found else states[0])  # in its place alone: no edge reads it
        return [state for state, sources in zip(states[len(inputs) :], self.sources, strict=True) if sources]


class Beside(nn.Module):
    """An edge of a space with an operation beside the others: the sum of the two."""

    def __init__(self, operation: nn.Module, beside: nn.Module):
        super().__init__()
        self.operation, self.beside = operation, beside

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        return self.operation(x) + self.beside(x)


class Nasbench201Cell(nn.Module):
    """A found cell of NAS-Bench-201; its output is its last node."""

    def __init__(self, nodes: tuple[Node, ...], channels: int):
        super().__init__()
        self.graph = Graph(nodes, lambda operation, source: make(operation, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.graph(x)[-1]


class DartsCell(nn.Module):
    """A found cell of the DARTS family; its output are its nodes side by side, without those that have no edges.

    Args:
        genotype: of its space; with its kept edges.
        kind: kind of cell.
        channels_in, channels, reduction_prev: see `skeletons.MakeCell`.
    """

    def __init__(
        self, genotype: Genotype, kind: str, channels_in: tuple[int, ...], channels: int, reduction_prev: bool
    ):
        super().__init__()
        from timm.layers import DropPath  # takes seconds, and the search, which shares the skeletons, has no use for it

        space = SPACES[genotype.space]
        spec = space.cells[kind]
        self.drop_path = DropPath()

        def make_edge(name: str, source: int) -> nn.Module:
            stride = spec.stride if source < spec.inputs else 1
            operation = make(name, channels, stride, pool_norm=space.found_pool_norm)
            if space.beside:  # drop-path takes the sum, as the sum is what the edge gives
                operation = Beside(operation, make(space.beside, channels, stride))
            return operation if isinstance(operation, nn.Identity) else nn.Sequential(operation, self.drop_path)

        older = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess = nn.ModuleList([older(channels_in[0], channels), ReLUConvBN(channels_in[1], channels)])
        self.graph = Graph(genotype.cells[kind], make_edge)
        self.out = [genotype.reached(kind).index(node) for node in genotype.nodes(kind)]

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Outputs of the two cells before -> [B, nodes C, H, W], halved in height and width by a reduction cell."""
        nodes = self.graph(self.preprocess[0](before), self.preprocess[1](last))
        return torch.cat([nodes[place] for place in self.out], 1)
