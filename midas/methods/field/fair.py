"""FairDARTS: a sigmoid for each operation instead of a softmax over all, driven to 0 or 1 (Chu et al., ECCV 2020).

The sigmoid is a distribution of static weights (`midas.methods.distributions`), the decoding by a threshold a key of the method
(`midas.methods.decoding`); here is the term of the architecture's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from midas.methods.field.logits import static_logits
from midas.methods.passes import Term
from midas.supernet import Supernet

NORMS: dict[str, Callable[[Tensor], Tensor]] = {"l2": torch.square, "l1": torch.abs}
"""By the key `norm`: from distances to what their mean is taken of."""


def distance(logits: Sequence[Tensor], norm: str = "l2") -> Tensor:
    """Mean distance of all weights from 1/2, a scalar; a mean, not a sum.

    Args:
        logits: of each kind of cell [edges, O], -inf where an edge does not offer an operation: it does not count.
        norm: see `NORMS`; the default of the authors' code is the square, not the absolute value of the paper's text.
    """
    every = torch.cat([s.flatten() for s in logits])
    offered = every > -torch.inf
    away = NORMS[norm](every.sigmoid() - 0.5)
    return away.masked_fill(~offered, 0).sum() / offered.sum()


def separation(weight: float = 10.0, norm: str = "l2") -> Term:
    """FairDARTS's term of the architecture's loss: -weight * `distance`, over all kinds of cell together, of static weights.

    Its gradient is 0 where all logits are 0, at which the method begins: the cross-entropy alone starts the motion.

    Args:
        weight: of the mean.
        norm: see `distance`.
    """

    def term(supernet: Supernet, epoch: Tensor) -> Tensor:
        return -weight * distance(static_logits(supernet), norm)

    return term
