"""Changes of the operations' weights between their source and the mixture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midas.supernet.weights import Change, Place


class Shared(Change):
    """One change a forward pass for all cells of a kind, as static weights are one: the first cell's is made, the others get it.

    Args:
        make: new weights of a node from p [1, E, O].
    """

    def __init__(self, make: Callable[[Tensor, Place], Tensor]):
        self.make = make
        self.made: dict[tuple[str, int], Tensor] = {}

    def begin(self) -> None:
        """See `Change.begin`."""
        self.made.clear()

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """See `Change`."""
        key = place.kind, place.node
        if key not in self.made:
            self.made[key] = self.make(p, place)
        return self.made[key]


class Mask(Change):
    """Operations that take part no longer.

    Args:
        kept: kind of cell -> what is kept, bool [edges, O].
        renormalises: whether the weights that an edge keeps are divided by their sum; an edge without any keeps none.
        alone: whether an operation that is alone on its edge has weight 1, whatever its p, which then learns nothing.
    """

    def __init__(self, kept: dict[str, Tensor], renormalises: bool, alone: bool = False):
        self.kept, self.renormalises, self.alone = kept, renormalises, alone

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """See `Change`."""
        kept = self.kept[place.kind][place.edges]
        left = p * kept.to(p)
        if self.alone:
            left = torch.where(kept.sum(-1, keepdim=True) == 1, kept.to(p), left)
        if not self.renormalises:
            return left
        return left / left.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
