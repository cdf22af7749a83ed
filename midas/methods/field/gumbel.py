"""GDAS (Dong and Yang, CVPR 2019): one operation of an edge, drawn anew in each forward pass, its gradient straight through.

A draw is that of all cells of a kind, and each pass has its own, so the architecture's step sees another one than the weights'.
With g = -log of an exponential number, q = softmax((log softmax(alpha) + g) / tau): its largest entry is operation k with
probability softmax(alpha)_k at every tau. The weights are exactly 1 at k and 0 elsewhere; backwards they are q. So tau changes
gradients alone. What alpha learns of an operation j that was not drawn is where the authors' two codes and the paper differ:

- "code", their NAS-Bench-201: the bare number h_j is added to the map, as if the operation's map were ones;
- "chosen", their DARTS space: nothing but by way of the softmax;
- "dense", the paper's formula: the gradient of its map, which has to be computed.

But in "dense", only what was drawn is computed. In a CUDA graph, which can't branch on a draw, all is, with weight 0: the same
numbers, at the cost of DARTS.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from midas.methods.distributions import edge_softmax
from midas.methods.learning import Gradient, Step
from midas.methods.passes import TrainingPass
from midas.methods.static import StaticMixing
from midas.spaces import CellSpec, Space
from midas.supernet.weights import Weights


def temperature(epoch: Tensor, first: float, last: float, epochs: int) -> Tensor:
    """Temperature tau of an epoch (from 0), linear from `first` in the first to `last` in the last; per epoch, not per step."""
    return first + (last - first) * epoch.double() / max(epochs - 1, 1)


def gumbel_like(x: Tensor) -> Tensor:
    """Gumbel noise of the shape of x, by torch's generator of its device.

    The original draws again what is infinite; here an exponential number of 0, the only way to it, becomes the smallest one.
    """
    return -torch.empty_like(x).exponential_().clamp_(min=torch.finfo(x.dtype).tiny).log()


def scores(alpha: Tensor, noise: Tensor, tau: Tensor | float) -> Tensor:
    """What q is the softmax of, from alpha [..., O], -inf where an operation is not offered, and Gumbel noise of its shape."""
    return (alpha.log_softmax(-1) + noise) / tau


def straight_through(q: Tensor) -> tuple[Tensor, Tensor]:
    """Of q [..., O]: weights that are exactly 1 at its largest entry and 0 elsewhere, with the gradient of q; and where, 1 or 0.

    The original adds and takes off q in the other order, so that its 1 may be wrong by a rounding.
    """
    one = torch.zeros_like(q).scatter(-1, q.argmax(-1, keepdim=True), 1.0)
    return one + (q - q.detach()), one


def filled(gradient: Gradient) -> Gradient:
    """A gradient that is 0, not missing, for weights of operations that were not drawn: their momentum and decay go on.

    So it was under the torch of the original's time, from an operation's first draw on; a newer one leaves them out.
    """

    def found(step: Step) -> TrainingPass:
        result, weights = gradient(step), step.passes.weights
        pairs = zip(weights, result.gradients, strict=True)
        return result._replace(gradients=tuple(torch.zeros_like(w) if g is None else g for w, g in pairs))

    return found


class Drawn(NamedTuple):
    """A draw for all edges of a kind of cell.

    Attributes:
        weights: 1 or 0 with the gradient of q [E, O].
        mixing: the same as the maps are weighted [E, O], or [E], those of the chosen alone, where `chosen` is set.
        bare: sums of the weights that are added as numbers [E], None where there are none.
        chosen: (edge, operation) of each edge, None where all candidates are computed.
    """

    weights: Tensor
    mixing: Tensor
    bare: Tensor | None
    chosen: list[tuple[int, str]] | None


class GumbelMixing(StaticMixing):
    """Static architecture parameters of which a pass draws one operation of each edge.

    Args:
        spec: kind of cell.
        space: its space.
        variant: "code", "chosen" or "dense".
        first: see `temperature`.
        last: likewise.
        epochs: of the search.
    """

    def __init__(self, spec: CellSpec, space: Space, variant: str, first: float, last: float, epochs: int):
        super().__init__(spec, space, edge_softmax, draws=True)
        self.operations, self.variant, self.schedule = space.operations, variant, (first, last, epochs)
        self.chooses = variant != "dense"
        self.now: Drawn | None = None

    def begin(self, epoch: Tensor, whole: bool) -> None:
        """See `Source.begin`."""
        self.epoch, self.whole, self.now = epoch, whole or not self.chooses, None

    def chosen(self) -> set[tuple[int, str]] | None:
        """See `Source.chosen`."""
        chosen = self._drawn().chosen
        return None if chosen is None else set(chosen)

    def forward(self, node: int, *_: object) -> Weights:
        """Weights of a node; the other arguments of `Source.forward` are not used."""
        drawn, slots = self._drawn(), self.slots[node]
        rows = slots.rows
        bare = None if drawn.bare is None else drawn.bare[rows].sum()
        if drawn.chosen is None:
            share = slots.share(drawn.mixing[None, rows])
        else:  # slices, since an index that is a list would be sent to the device
            own = zip(drawn.mixing[rows].split(1), drawn.chosen[rows], strict=True)
            mapped = [weight for weight, (_, operation) in own if operation != "none"]
            share = torch.cat([drawn.mixing[:0], *mapped])[None]
        return Weights(drawn.weights[None, rows], None, share, bare=bare)

    def _drawn(self) -> Drawn:
        if self.now is None:
            with torch.autocast(self.alpha.device.type, enabled=False):
                self.now = self._draw()
        return self.now

    def _draw(self) -> Drawn:
        logits = self.alpha.masked_fill(self.missing, -torch.inf)
        q = scores(logits, gumbel_like(logits), temperature(self.epoch, *self.schedule)).softmax(-1)
        weights, one = straight_through(q)
        if not self.chooses:
            return Drawn(weights, weights, None, None)
        mixing = weights * one  # nothing comes back to what was not drawn
        learns = self.variant == "code" and weights.requires_grad
        bare = (weights - mixing).sum(-1) if learns else None  # 0, with a gradient
        if self.whole:
            return Drawn(weights, mixing, bare, None)
        chosen = [(edge, self.operations[column]) for edge, column in enumerate(one.argmax(-1).tolist())]
        return Drawn(weights, mixing.sum(-1), bare, chosen)
