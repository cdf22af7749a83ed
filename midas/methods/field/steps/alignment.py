"""Lambda-DARTS (Movahedi et al., ICLR 2023): weights learn so that the cells agree on how the operations should be weighed.

Lambda is the mean correlation of the cells' gradients of their own copies of p. Its gradient of the network's weights is a mixed
second derivative, found by a central difference along u = dLambda / dgradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midas.methods.changes import Mask
from midas.methods.field.steps.moves import kept
from midas.methods.learning import Gradient, Step, on_train
from midas.methods.passes import TrainingPass
from midas.supernet import Supernet
from midas.supernet.weights import Change, Place

Shifts = dict[tuple[int, int], Tensor]
"""(number of a cell, node) -> what is added to p there [1, E, O]."""

SMALLEST = 1e-12
"""What the norm of u is at least taken to be: cells of equal gradients have u = 0."""


def alignment(gradients: Tensor, signs: bool = False) -> Tensor:
    """Lambda, the mean over all pairs of cells, in [-1, 1].

    Args:
        gradients: of each cell [L, entries].
        signs: whether g_l . g_m is divided by |g_l| . |g_m| (signcorr), not by the product of the norms (corr).
    """
    return _correlations(gradients, signs)[0].sum() / _ordered_pairs(gradients)


def ascent(gradients: Tensor, signs: bool = False) -> Tensor:
    """Gradient u [L, entries] of Lambda; 0 where there is one cell alone."""
    correlation, inverse = _correlations(gradients, signs)
    drawn = inverse @ gradients
    if signs:
        held = gradients.sign() * ((correlation * inverse) @ gradients.abs())
    else:
        norms = gradients.norm(dim=1, keepdim=True)
        held = gradients / _or_one(norms) * (correlation * inverse @ norms)
    return 2 / _ordered_pairs(gradients) * (drawn - held)


def finite_step(u: Tensor, epsilon: float) -> Tensor:
    """Factor of u by which p is shifted to either side: epsilon / ||u||."""
    return epsilon / u.norm().clamp(min=SMALLEST)


def strength(epoch: Tensor, weight: float, epochs: int) -> Tensor:
    """Weight of Lambda in an epoch (from 0): from 0 in the first to `weight` in the last."""
    return weight * epoch.double() / max(epochs - 1, 1)


def added(gradient: Tensor, minus: Tensor, plus: Tensor, weight: Tensor | float, size: Tensor | float) -> Tensor:
    """A gradient minus `weight` times that of Lambda, which those at p - size u and p + size u give."""
    return gradient + weight * ((minus - plus) / (2 * size))


def aligned(weight: float, epsilon: float, epochs: int, signs: bool = False, gradient: Gradient = on_train) -> Gradient:
    """A gradient of the weights that raises Lambda of the normal cells, of all cells where there is one kind.

    Each node's copy of p is shifted alike for all images: where p is that of an image (attention), a cell's gradient is the sum
    over the batch of the gradients of a mean loss. What is drawn anew in each pass (S4's noise) is not the same on both sides.

    Args:
        weight: lambda, of the last epoch; 0 in the first.
        epsilon: norm of the shift of all cells together.
        epochs: of the search.
        signs: see `alignment`.
        gradient: what it is added to; it is asked three times, once without weight.
    """

    def found(step: Step) -> TrainingPass:
        leaves = _zeros(step.passes.supernet)
        with step.passes.reading(list(leaves.values())) as read:
            at_p = kept(_shifted(step, gradient, leaves))
        cells = len({cell for cell, _ in leaves})
        gradients = torch.cat([g.flatten() for g in read]).view(cells, -1)
        if weight == 0:  # looked at, and nothing else
            return at_p._replace(alignment=alignment(gradients, signs))
        u = ascent(gradients, signs)
        size = finite_step(u, epsilon)
        parts = (size * u).flatten().split([leaf.numel() for leaf in leaves.values()])
        shifts = {place: part.view_as(leaf) for (place, leaf), part in zip(leaves.items(), parts, strict=True)}
        minus = kept(_shifted(step, gradient, {place: -shift for place, shift in shifts.items()}))
        plus = _shifted(step, gradient, shifts)
        now = strength(step.passes.epoch, weight, epochs)
        return at_p._replace(
            gradients=tuple(
                g if g is None or a is None or b is None else added(g, a, b, now, size)
                for g, a, b in zip(at_p.gradients, minus.gradients, plus.gradients, strict=True)
            ),
            alignment=alignment(gradients, signs),
        )

    return found


class Shifted(Change):
    """Something added to p in each cell of its own; cells that are not named stay as they are.

    Args:
        shifts: what is added.
        mask: of operations that take no part, to which nothing is added.
    """

    def __init__(self, shifts: Shifts, mask: Mask | None = None):
        self.shifts, self.mask = shifts, mask

    def __call__(self, p: Tensor, place: Place) -> Tensor:
        """See `Change`."""
        shift = self.shifts.get((place.cell, place.node))
        if shift is None:
            return p
        return p + (shift if self.mask is None else shift * self.mask.kept[place.kind][place.edges])


def _shifted(step: Step, gradient: Gradient, shifts: Shifts) -> TrainingPass:
    with step.passes.supernet.changed(Shifted(shifts, step.restrictions.mask)):
        return gradient(step)


def _zeros(supernet: Supernet) -> Shifts:
    """Leaves for all nodes of the cells that don't reduce, cell by cell."""
    like = next(supernet.parameters())
    return {
        (number, node): torch.zeros(1, *slots.shape, dtype=like.dtype, device=like.device, requires_grad=True)
        for number, cell in enumerate(supernet.cells)
        if cell.spec.stride == 1
        for node, slots in cell.mixing.slots.items()
    }


def _correlations(gradients: Tensor, signs: bool) -> tuple[Tensor, Tensor]:
    """Correlations of all pairs of cells [L, L] and what their products were multiplied by; 0 for a cell and itself."""
    if signs:
        scale = gradients.abs() @ gradients.abs().T
    else:
        norms = gradients.norm(dim=1)
        scale = norms[:, None] * norms
    others = 1 - torch.eye(len(gradients), dtype=gradients.dtype, device=gradients.device)
    inverse = others * (scale > 0) / _or_one(scale)
    return gradients @ gradients.T * inverse, inverse


def _or_one(x: Tensor) -> Tensor:
    """With 1 in the place of 0, to divide by."""
    return torch.where(x > 0, x, 1)


def _ordered_pairs(gradients: Tensor) -> int:
    return max(len(gradients) * (len(gradients) - 1), 1)
