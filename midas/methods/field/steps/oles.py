"""OLES (Jiang et al., NeurIPS 2023): an operation whose gradients of both halves part ways learns no longer.

An operation is one instance: that of one edge in one cell. Its score compares two gradients channel by channel. Where scores stay
low for a whole window its weights stand still for the rest of the search; the operation goes on to take part, and so does the
architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.methods.epochs import Epoch, Hook
from midas.methods.learning import Gradient, Learning, Step, first_order
from midas.methods.passes import Passes, TrainingPass
from midas.methods.restrictions import Operation, Restrictions
from midas.supernet import Supernet


def similarity(now: Tensor, last: Tensor) -> Tensor:
    """Mean cosine [n] of gradients [n, out, ...] of n parameters: along the output channels, not of the flattened gradients."""
    return F.cosine_similarity(now, last, dim=1).flatten(1).mean(1)


def scored(supernet: Supernet) -> list[Operation]:
    """The operations with a score: convolutions. DARTS's skip_connect of a reduction cell has weights, but no score."""
    return [
        (number, edge, operation)
        for number, cell in enumerate(supernet.cells)
        for edge, offered in enumerate(cell.spec.candidates)
        for operation in offered
        if "conv_" in operation
    ]


class Window(NamedTuple):
    """Scores of the checks so far, since all were last compared with the threshold.

    Attributes:
        sums: of the scores [operations].
        checks: how many they are [].
        still: which operations are frozen, bool [operations].
    """

    sums: Tensor
    checks: Tensor
    still: Tensor

    def add(self, scores: Tensor, counts: Tensor, window: int, threshold: float) -> None:
        """Add a check, in place: `window` + 1 of them are summed, divided by `window` and compared, then it begins anew.

        Args:
            scores: [operations].
            counts: 1, or 0 where there was nothing to compare with yet: a tensor [].
            window: checks, less one.
            threshold: below which an operation is frozen.
        """
        self.sums.add_(scores * counts)
        self.checks.add_(counts)
        full = self.checks > window
        self.still.logical_or_(full & (self.sums / window < threshold))
        self.sums.masked_fill_(full, 0)
        self.checks.masked_fill_(full, 0)


class Oles(Hook):
    """Scores in each step of the architecture, and what is frozen by them, all in tensors; a column `frozen` in the history.

    What is compared with the last clipped gradient of a training batch is, by `accumulated`, its sum with the validation batch's
    gradient: the original doesn't clear the weights' gradients between its two steps. Two gradients that are orthogonal, of one
    length, then have a score of .71, not of 0. Else it is that gradient alone, as the paper has it.

    Args:
        threshold: below which an operation is frozen.
        window: checks that are compared with it together, less one.
        accumulated: see above.
    """

    def __init__(self, threshold: float = 0.4, window: int = 20, accumulated: bool = True):
        self.threshold, self.window, self.accumulated = threshold, window, accumulated
        self.found: Window | None = None
        self._saved: list[Tensor] = []

    def watches(self, learning: Learning) -> Learning:
        """The same learning under this watch. The check is made before the step of the architecture, as the passes are."""
        return learning._replace(
            architecture=self._checked(learning.architecture),
            weights=self._knowing(learning.weights),
            after=self._remember,
        )

    def _knowing(self, gradient: Gradient) -> Gradient:
        """A gradient of the weights; what is frozen is known before their step, also where that comes first after a resume."""

        def found(step: Step) -> TrainingPass:
            self._begun(step.passes, step.restrictions)
            return gradient(step)

        return found

    def _checked(self, gradient: Gradient) -> Gradient:
        """A gradient of the architecture; but for first-order DARTS's own, that of the weights takes a pass more."""

        def found(step: Step) -> TrainingPass:
            if gradient is first_order:
                taken, weights = step.passes.of_both(step.valid)
            else:
                weights = tuple(None if g is None else g.clone() for g in step.passes.of_weights(step.valid).gradients)
                taken = gradient(step)
            self._check(self._begun(step.passes, step.restrictions), weights)
            return taken

        return found

    def _check(self, window: Window, weights: Sequence[Tensor | None]) -> None:
        groups = zip(self._last, self._stacked(weights), strict=True)
        means = [similarity(now + last if self.accumulated else now, last) for last, now in groups]
        scores = torch.cat([*means, means[0].new_zeros(1)])[self._places].sum(1) / self._sizes
        window.add(scores, self._seen, self.window, self.threshold)

    def _remember(self, step: Step) -> None:
        self._begun(step.passes, step.restrictions)
        for last, now in zip(self._last, self._stacked([w.grad for w in step.passes.weights]), strict=True):
            last.copy_(now)
        self._seen.fill_(1)

    def _begun(self, passes: Passes, restrictions: Restrictions) -> Window:
        """What is counted, made at the first use, or as a checkpoint has it."""
        if self.found is None:
            operations, device = scored(passes.supernet), passes.device
            self._groups, places = _grouped(passes, operations)
            self._places = nn.utils.rnn.pad_sequence(places, True, -1).to(device)
            self._sizes = torch.tensor([len(own) for own in places], device=device)
            self._last = self._stacked([None] * len(passes.weights))
            self._seen = torch.zeros((), dtype=torch.int64, device=device)
            sums = torch.zeros(len(operations), dtype=self._last[0].dtype, device=device)
            self.found = Window(sums, torch.zeros_like(self._seen), restrictions.watch(*operations))
            for own, saved in zip(self._tensors() if self._saved else (), self._saved, strict=True):
                own.copy_(saved)
        return self.found

    def _stacked(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of all weights as those of each group [n, out, ...]; 0 for what had no part in the loss."""

        def of(number: int, part: slice, like: Tensor) -> Tensor:
            gradient = gradients[number]
            return torch.zeros_like(like) if gradient is None else gradient[part]

        return [torch.stack([of(*member) for member in group]) for group in self._groups]

    def _tensors(self) -> list[Tensor]:
        return [] if self.found is None else [*self.found, self._seen, *self._last]

    def __call__(self, epoch: Epoch) -> None:
        """See `Hook`."""
        epoch.history[-1]["frozen"] = int(self._begun(epoch.passes, epoch.restrictions).still.sum())

    def state(self) -> dict[str, Any]:
        """See `Hook`."""
        return {"tensors": self._saved if self.found is None else self._tensors()}

    def restore(self, state: dict[str, Any], passes: Passes) -> None:
        """See `Hook`."""
        self._saved = state["tensors"]


Members = list[tuple[int, slice, Tensor]]
"""Parameters of one shape: number among the weights, the part that is an operation's own, and a view of that."""


def _grouped(passes: Passes, operations: Sequence[Operation]) -> tuple[list[Members], list[Tensor]]:
    """The operations' parameters in groups of one shape, which are compared together, and the places of each one's among them."""
    numbers = {id(weight): number for number, weight in enumerate(passes.weights)}
    groups: dict[torch.Size, Members] = {}
    owned: list[list[tuple[torch.Size, int]]] = []
    for operation in operations:
        owned.append([])
        for parameter, part in passes.supernet.parameters_of(*operation):
            own = parameter.detach()[part]
            members = groups.setdefault(own.shape, [])
            owned[-1].append((own.shape, len(members)))
            members.append((numbers[id(parameter)], part, own))
    firsts = dict(zip(groups, accumulate(map(len, groups.values()), initial=0), strict=False))
    return list(groups.values()), [torch.tensor([firsts[shape] + n for shape, n in own]) for own in owned]
