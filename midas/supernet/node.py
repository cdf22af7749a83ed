"""What attention weighs in a node, and what it keeps for the gradients, whichever code computes it.

Shapes: B images, R patches, E edges that end in the node, K candidates that have a map, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Node(NamedTuple):
    """What the attention of a node weighs.

    Attributes:
        inputs: means over patches of the maps of its E source nodes, each [B, R, C].
        candidates: likewise of its K candidates.
        entries: (place, set of the softmax, candidate or -1 for "none") of each weight, those of a set side by side.
        places: P, how many there are, whether something is offered there or not.
        query: W_Q [C, E C].
        key: W_K [1, C, C], shared by all operations.
        scale: of the logits.
        normalise: what queries and keys are divided by before their product, as the key of a method says it.
        relu: whether a ReLU follows their projection.
    """

    inputs: Sequence[Tensor]
    candidates: Sequence[Tensor]
    entries: Sequence[tuple[int, int, int]]
    places: int
    query: Tensor
    key: Tensor
    scale: float
    normalise: str = "none"
    relu: bool = False

    @property
    def plain(self) -> bool:
        """Whether the logits are scale q . (W_K k), so that (W_K^T q) . k gives them."""
        return self.normalise == "none" and not self.relu


class Attended(NamedTuple):
    """What `attend` finds, and keeps for the gradients.

    Attributes:
        weights: of each patch [B, R, P], 0 where nothing is offered.
        p: their means [B, P].
        projected: of each patch [B, R, 2, C] q and W_K^T q; where keys are projected one by one, q in the end and after its
            activation.
        factors: in that case, of each patch [B, R, 1 + K] what q and each key were multiplied by to normalise them; else None.
    """

    weights: Tensor
    p: Tensor
    projected: Tensor
    factors: Tensor | None = None
