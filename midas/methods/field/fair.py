"""FairDARTS: a sigmoid for each operation instead of a softmax over all, driven to 0 or 1 (Chu et al., ECCV 2020).

The decodings take weights sigma [edges, O] of one kind of cell and return the inputs of each node, ordered by source. Weights
compete no longer, hence a threshold says what is kept: a node may be left without an input. "none" is never decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from midas.methods.field.logits import static_logits
from midas.methods.passes import Term
from midas.spaces import CellSpec
from midas.supernet import Supernet

Nodes = list[list[tuple[str, int]]]
"""For each node its inputs as (operation, source); nodes are numbered with the cell's inputs first."""


def sigmoid(s: Tensor) -> tuple[Tensor, None]:
    """Sigmoid of each logit on its own, see `distributions`: an edge's weights p need not sum to 1."""
    return s.sigmoid(), None


def distance(logits: Sequence[Tensor], squared: bool = True) -> Tensor:
    """Mean distance of all weights from 1/2, a scalar.

    Args:
        logits: of each kind of cell [edges, O], -inf where an edge does not offer an operation: it does not count.
        squared: whether distances are squared.
    """
    every = torch.cat([s.flatten() for s in logits])
    offered = every > -torch.inf
    away = every.sigmoid() - 0.5
    away = away.square() if squared else away.abs()
    return away.masked_fill(~offered, 0).sum() / offered.sum()


def separation(weight: float = 10.0, squared: bool = True) -> Term:
    """FairDARTS's term of the architecture's loss: -weight * `distance`, over all kinds of cell together, of static weights.

    Its gradient is 0 where all logits are 0, at which the method begins.

    Args:
        weight: of the mean.
        squared: whether distances are squared (the default of the authors' code).
    """

    def term(supernet: Supernet, epoch: Tensor) -> Tensor:
        return -weight * distance(static_logits(supernet), squared)

    return term


def two_strongest(sigma: np.ndarray, spec: CellSpec, operations: tuple[str, ...], threshold: float = 0.0) -> Nodes:
    """DARTS's decoding: of each node the two edges with the largest weights, on each the strongest operation.

    Args:
        sigma: weights [edges, O].
        spec: the kind of cell.
        operations: of the space, the columns.
        threshold: operations with a smaller weight are dropped, and their edges with them.
    """
    weights, nodes = _decodable(sigma, spec, operations), []
    for node in spec.nodes:
        ranked = sorted(spec.incoming(node), key=lambda edge: -weights[edge].max())  # of equal edges the first
        kept = [edge for edge in sorted(ranked[:2]) if weights[edge].max() >= threshold]
        nodes.append([(operations[int(weights[edge].argmax())], spec.edges[edge][0]) for edge in kept])
    return nodes


def threshold_sparse(sigma: np.ndarray, spec: CellSpec, operations: tuple[str, ...], threshold: float = 0.85) -> Nodes:
    """FairDARTS's default: `two_strongest` with a threshold, so that a node has 0, 1 or 2 inputs."""
    return two_strongest(sigma, spec, operations, threshold)


def threshold_edge(sigma: np.ndarray, spec: CellSpec, operations: tuple[str, ...], threshold: float = 0.85) -> Nodes:
    """On every edge the two strongest operations that reach the threshold, the strongest first: up to two inputs an edge."""
    weights, nodes = _decodable(sigma, spec, operations), []
    for node in spec.nodes:
        ranked = [
            (edge, index) for edge in spec.incoming(node) for index in np.argsort(-weights[edge], kind="stable")[:2]
        ]
        kept = [(edge, index) for edge, index in ranked if weights[edge, index] >= threshold]
        nodes.append([(operations[index], spec.edges[edge][0]) for edge, index in kept])
    return nodes


def _decodable(sigma: np.ndarray, spec: CellSpec, operations: tuple[str, ...]) -> np.ndarray:
    """The weights, -1 for "none" and where an edge does not offer an operation."""
    offered = [[o in candidates and o != "none" for o in operations] for candidates in spec.candidates]
    return np.where(offered, sigma, -1.0)
