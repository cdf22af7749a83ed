"""DARTS-PT (Wang et al., ICLR 2021): an edge gets the operation whose removal hurts the supernet most.

After the epochs of the search, while the weights go on learning, one edge of each kind of cell is decided at a time, in a random
order. The supernet is measured without an operation, not with it alone: the weight is 0, the others stay as they are, so that
they no longer sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from midas.methods.changes import Mask
from midas.methods.epochs import Epoch, Evaluated, Hook
from midas.spaces import CellSpec, Space

Worth = Callable[[Evaluated], float]
WORTHS: dict[str, Worth] = {"accuracy": lambda found: found.accuracy, "loss": lambda found: -found.loss}
"""What a supernet is worth."""


def most_missed(worths: Sequence[float]) -> int:
    """Of supernets that lack something each the one that is worth least; the first of equal ones."""
    return worths.index(min(worths))


def least_missed(worths: Sequence[float]) -> int:
    """Likewise the one that is worth most, but the last of equal ones."""
    return len(worths) - 1 - worths[::-1].index(max(worths))


def kept_edges(edges: Sequence[int], worth_without: Callable[[int], float], count: int) -> list[int]:
    """Edges that a node keeps: the one that is least missed is deleted, until `count` are left.

    All are measured again each time, with the edges in the network that were deleted before.
    """
    left = list(edges)
    while len(left) > count:
        del left[least_missed([worth_without(edge) for edge in left])]
    return left


def schedule(space: Space, interval: int) -> list[int]:
    """Epochs (from 0, after those of the search) at whose start something is decided: all edges, then nodes with edges to delete.

    With the last one the search ends, after that epoch. Where nodes keep all edges it comes an epoch early.
    """
    spec = next(iter(space.cells.values()))
    events = [interval * event for event in range(len(spec.edges) + len(_crowded(space, spec)))]
    if space.kept_edges is None and interval > 1 and len(events) > 1:
        events[-1] -= 1
    return events


def evaluations(space: Space, allow_none: bool) -> int:
    """How many times the whole validation half is seen until all is decided."""
    count = 0
    for spec in space.cells.values():
        count += sum(len(_choices(space, spec, edge, allow_none)) for edge in range(len(spec.edges)))
        for node in _crowded(space, spec):
            edges = len(spec.incoming(node))
            count += sum(range(edges, space.kept_edges or edges, -1))
    return count


class Selection(Hook):
    """Decides at the end of the epoch before, and holds what is decided as a mask; a column `decided` in the history.

    A decided edge has one operation with weight 1, a deleted one has none. That is all its state, which the mask keeps.

    Args:
        space: with "none" among its candidates where the method offers it.
        epochs: of the search; those in which something is decided follow.
        interval: epochs from one decision to the next.
        by: see `WORTHS`.
        decode_none: whether "none" may be chosen; None: as the space says.
    """

    def __init__(
        self, space: Space, epochs: int, interval: int = 5, by: str = "accuracy", decode_none: bool | None = None
    ):
        self.space, self.epochs, self.worth = space, epochs, WORTHS[by]
        self.allow_none = space.decodes_none if decode_none is None else decode_none
        self.events = schedule(space, interval)

    def __call__(self, epoch: Epoch) -> None:
        """See `Hook`."""
        done = len(epoch.history) - self.epochs
        if done in self.events:
            for kind, spec in self.space.cells.items():
                self._decide(epoch, kind, spec)
        epoch.history[-1]["decided"] = sum(event <= done for event in self.events)

    def _decide(self, epoch: Epoch, kind: str, spec: CellSpec) -> None:
        """Decide a random edge of a kind of cell, or a random node where all edges are decided."""
        kept = self._kept(epoch)
        count = kept[kind].sum(-1).tolist()
        worth = partial(self._worth_without, epoch, kept, kind)
        if undecided := [edge for edge, left in enumerate(count) if left > 1]:
            edge = _drawn(undecided)
            choices = _choices(self.space, spec, edge, self.allow_none)
            chosen = choices[most_missed([worth(edge, operation) for operation in choices])]
            kept[kind][edge] = False
            kept[kind][edge, chosen] = True
        else:
            crowded = [n for n in _crowded(self.space, spec) if all(count[edge] for edge in spec.incoming(n))]
            edges = spec.incoming(_drawn(crowded))
            left = kept_edges(edges, partial(worth, operation=slice(None)), self.space.kept_edges or len(edges))
            kept[kind][[edge for edge in edges if edge not in left]] = False
        epoch.restrictions.keep(kept, renormalises=False, alone=True)

    def _kept(self, epoch: Epoch) -> dict[str, Tensor]:
        """A copy of what is kept so far."""
        if epoch.restrictions.mask is not None:
            return {kind: kept.clone() for kind, kept in epoch.restrictions.mask.kept.items()}
        shape = len(self.space.operations)
        device = epoch.passes.device
        return {
            kind: torch.ones(len(spec.edges), shape, dtype=torch.bool, device=device)
            for kind, spec in self.space.cells.items()
        }

    def _worth_without(
        self, epoch: Epoch, kept: dict[str, Tensor], kind: str, edge: int, operation: int | slice
    ) -> float:
        """What the supernet is worth without an operation of an edge, or without all of them."""
        others = {name: torch.ones_like(of_kind) for name, of_kind in kept.items()}
        others[kind][edge, operation] = False
        return self.worth(epoch.evaluate(Mask(others, renormalises=False)))


def _choices(space: Space, spec: CellSpec, edge: int, allow_none: bool) -> list[int]:
    """Numbers of the operations that an edge may get."""
    return [
        number
        for number, operation in enumerate(space.operations)
        if operation in spec.candidates[edge] and (allow_none or operation != "none")
    ]


def _crowded(space: Space, spec: CellSpec) -> list[int]:
    """Nodes with more edges than they keep."""
    return [n for n in spec.nodes if space.kept_edges is not None and len(spec.incoming(n)) > space.kept_edges]


def _drawn(numbers: Sequence[int]) -> int:
    """One of them, by torch's generator, which is seeded for each epoch's hooks."""
    return numbers[int(torch.randint(len(numbers), ()))]
