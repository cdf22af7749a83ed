"""PC-DARTS (Xu et al., ICLR 2020): operations on the first channels of a map, and learned weights of the edges.

An edge is b_e shuffle([sum_j p_j o_j(first channels), others]); `midas.supernet.beside.partial` has the split and the shuffle.
Common guesses: channels are drawn at random (the paper's text; its authors' code takes the first, as is done here); b_e weighs
the mixture alone (it weighs the whole edge, what goes by included); NAS-Bench-201 has weights of edges (the ports there have
none); the start in which the architecture does not learn scales with the search (it is 15 epochs). A cell is decoded by p times
b.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midas.spaces import CellSpec
from midas.supernet.weights import MakeSource, Source


def edge_weights(beta: Tensor) -> Tensor:
    """Weights of the edges that end in a node from their logits [E]: a softmax over the edges, not over operations."""
    return beta.softmax(-1)


class EdgeWeights(nn.Module):
    """Weights of the edges of a kind of cell, from architecture parameters.

    Attributes:
        beta: a logit of each edge, drawn as those of DARTS's operations.
    """

    def __init__(self, spec: CellSpec):
        super().__init__()
        self.beta = nn.Parameter(1e-3 * torch.randn(len(spec.edges)))

    def forward(self, rows: slice) -> Tensor:
        """Weights [E] of the edges `rows`, which end in one node."""
        return edge_weights(self.beta[rows])


def with_edges(make: MakeSource) -> MakeSource:
    """Sources with weights of edges beside: shared by the cells of a kind where the source is, else each cell's own."""

    def made(spec: CellSpec, channels: int, fast: bool) -> Source:
        source = make(spec, channels, fast)
        source.edges = EdgeWeights(spec)
        return source

    return made
