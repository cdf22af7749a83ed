"""SDARTS (Chen and Hsieh, ICML 2020): weights learn at mixing weights that are perturbed, at random (RS) or by an attack (ADV).

What is perturbed is p, not alpha, in the step of the weights alone. A perturbed p' is clipped: entries to [0, 1], then each row
divided by its sum, so that it may lie farther from p than epsilon.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midas.methods.changes import Shared
from midas.methods.learning import Step
from midas.supernet import Supernet
from midas.supernet.weights import Change, Place


def clip_rows(p: Tensor) -> Tensor:
    """Rows p [..., O] clamped to [0, 1] and divided by their sums; one without a positive entry becomes 1 at its largest.

    An entry of -inf is not offered: it becomes 0.
    """
    clamped = p.clamp(0, 1)
    largest, place = p.max(-1, keepdim=True)
    one = torch.zeros_like(p).scatter(-1, place, 1.0) * (largest > -torch.inf)
    total = clamped.sum(-1, keepdim=True)
    return torch.where(total > 0, clamped / torch.where(total > 0, total, 1), one)


def radius(epoch: Tensor, first: float, last: float, epochs: int) -> Tensor:
    """Epsilon of an epoch (from 0): from `first`, to `last` after as many epochs as there are, which no epoch reaches."""
    return first + (last - first) * epoch.double() / epochs


def attack(p: Tensor, start: Tensor, gradient: Callable[[Tensor], Tensor], epsilon: Tensor, steps: int) -> Tensor:
    """Steps of 2 epsilon / steps up the signs of a gradient, each one clamped to p +- epsilon and clipped.

    Args:
        p: weights [..., O], -inf where nothing is offered.
        start: where it begins, clipped.
        gradient: of the loss, of weights like p.
        epsilon: largest change of an entry before rows are clipped.
        steps: how many.
    """
    now = start
    for _ in range(steps):
        change = now + 2 * epsilon / steps * gradient(now).sign() - p
        now = clip_rows(p + change.clamp(-epsilon, epsilon))
    return now


def unless_it_fell(p: Tensor, attacked: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The attacked weights, or p where the loss fell."""
    return torch.where(after < before, p, attacked)


def random_change(first: float = 0.03, last: float = 0.3, epochs: int = 50) -> Callable[[Step], Change]:
    """RS: p + U(-epsilon, epsilon), clipped; for `perturbed`.

    It is drawn anew in each forward pass, by torch's generator of the device: once for all cells of a kind where weights are
    static, for each cell and image where p is theirs (attention), which then learns through the clipping.

    Args:
        first: epsilon of the first epoch.
        last: see `radius`.
        epochs: of the search.
    """

    def change(step: Step) -> Change:
        supernet, epsilon = step.passes.supernet, radius(step.passes.epoch, first, last, epochs)
        offered = {kind: _offered(step, kind) for kind in set(supernet.kinds)}

        def make(p: Tensor, place: Place) -> Tensor:
            noise = epsilon * (2 * torch.rand_like(p) - 1)
            return torch.where(epsilon > 0, clip_rows(p + noise + offered[place.kind][place.edges]), p)

        return Shared(make) if supernet.mixing.shared else Apart(make)

    return change


def attacked_change(
    first: float = 0.03, last: float = 0.3, epochs: int = 50, steps: int = 7
) -> Callable[[Step], Change]:
    """ADV: p' that raises the loss of the training batch, begun at a random one, p if it fell in the end; for `perturbed`.

    A p' is that of all cells of a kind where weights are static, of each cell and image where p is theirs (attention): the values
    are then fixed, and what the weights learn through p goes on as if p' - p were constant. The original attacks in evaluation
    mode with running statistics, this one with those of the batch unless running ones are kept (`Search.statistics`).

    Args:
        first: epsilon of the first epoch.
        last: see `radius`.
        epochs: of the search.
        steps: of the attack, a pass each; there are two passes forward beside.
    """

    def change(step: Step) -> Change:
        passes, supernet = step.passes, step.passes.supernet
        group = _groups(supernet)
        cells = [group.index(number) for number in range(max(group) + 1)]  # the first of each group
        epsilon = radius(passes.epoch, first, last, epochs)
        offered = torch.stack([_offered(step, supernet.kinds[cell]) for cell in cells])
        with supernet.evaluated():
            seen = passes.forward(step.train)
        own = [supernet.cells[cell].p for cell in cells]  # those of a pass are multiplied by weights of edges, if any
        p, before = torch.stack([x for x in own if x is not None], 1), seen.loss.clone()

        def gradient(weights: Tensor) -> Tensor:
            leaf = weights.detach().requires_grad_()
            with supernet.changed(Fixed(leaf, group)), supernet.evaluated():
                (found,) = passes.of_leaves(step.train, [leaf]).gradients
            return torch.zeros_like(leaf) if found is None else found

        start = clip_rows(p + epsilon * (2 * torch.rand_like(p) - 1) + offered)
        raised = attack(p + offered, start, gradient, epsilon, steps)
        with supernet.changed(Fixed(raised, group)), supernet.evaluated():
            after = passes.forward(step.train).loss
        kept = torch.where(epsilon > 0, unless_it_fell(p, raised, before, after), p)
        return Fixed(kept, group, through=True)

    return change


class Apart(Change):
    """A change that each cell makes of its own p."""

    def __init__(self, make: Callable[[Tensor, Place], Tensor]):
        self.make = make

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """See `Change`."""
        return self.make(p, place)


class Fixed(Change):
    """Given weights in the place of p.

    Args:
        weights: of groups of cells [B or 1, groups, edges, O].
        group: of each cell.
        through: whether what p depends on learns, as if a constant were added to p.
    """

    def __init__(self, weights: Tensor, group: list[int], through: bool = False):
        self.weights, self.group, self.through = weights, group, through

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """See `Change`."""
        own = self.weights[:, self.group[place.cell], place.edges]
        return own + (p - p.detach()) if self.through else own


def _groups(supernet: Supernet) -> list[int]:
    """The group of each cell: all of a kind have one p where the source is theirs in common."""
    if not supernet.mixing.shared:
        return list(range(len(supernet.cells)))
    kinds = list(dict.fromkeys(supernet.kinds))
    return [kinds.index(kind) for kind in supernet.kinds]


def _offered(step: Step, kind: str) -> Tensor:
    """[edges, O] of a kind of cell: 0, -inf where an operation is missing or masked."""
    supernet = step.passes.supernet
    slots = supernet.cells[supernet.kinds.index(kind)].mixing.slots.values()
    offered = torch.cat([node.offset.view(node.shape) for node in slots])
    mask = step.restrictions.mask
    return offered if mask is None else offered.masked_fill(~mask.kept[kind], -torch.inf)
