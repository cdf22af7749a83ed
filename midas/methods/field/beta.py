"""beta-DARTS: a regulariser that keeps architecture parameters from growing (Ye et al., CVPR 2022).

As its authors' code has it: the mean log-sum-exp of the raw parameters, not the paper's loss on their softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from midas.methods.field.logits import static_logits
from midas.methods.passes import Term
from midas.supernet import Supernet

JOINT: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum}
"""How the values of several kinds of cell become one."""


def mean_logsumexp(logits: Sequence[Tensor], joint: str = "mean") -> Tensor:
    """The regulariser without its weight, a scalar: log-sum-exp over operations, its mean over edges.

    Args:
        logits: of each kind of cell [edges, O], -inf where an edge does not offer an operation.
        joint: what is taken of the kinds' values, "mean" or "sum".
    """
    return JOINT[joint](torch.stack([s.logsumexp(-1).mean() for s in logits]))


def beta(per_epoch: float = 0.5, joint: str = "mean") -> Term:
    """beta-DARTS's term of the architecture's loss, of static weights alone.

    Its weight is per_epoch * epoch in a search of any length: 0 in the first epoch, 49.5 in the last of 100.

    Args:
        per_epoch: by how much the weight grows in an epoch.
        joint: see `mean_logsumexp`; "sum" is how the repository of A2M has it in the DARTS space.
    """

    def term(supernet: Supernet, epoch: Tensor) -> Tensor:
        regulariser = mean_logsumexp(static_logits(supernet), joint)
        return per_epoch * epoch.to(regulariser.dtype) * regulariser

    return term
