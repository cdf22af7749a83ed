"""What a method does at an epoch's end, and which epoch's weights it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from midas.methods.passes import Passes
from midas.methods.restrictions import Restrictions
from midas.supernet.weights import Change


class Evaluated(NamedTuple):
    """A supernet on the whole validation half, unaugmented: mean cross-entropy and accuracy in percent."""

    loss: float
    accuracy: float


class Epoch(NamedTuple):
    """The end of an epoch, as a hook sees it.

    Attributes:
        passes: of the supernet; they know which epoch it was.
        history: rows of the epochs so far; the last is this one's, and may be added to, by the same keys in each epoch.
        restrictions: operations that are frozen or masked; more may be added.
        evaluate: the supernet on the whole validation half, with a change of its weights or without; nothing is left of it.
    """

    passes: Passes
    history: Sequence[dict[str, Any]]
    restrictions: Restrictions
    evaluate: Callable[[Change | None], Evaluated]


class Hook:
    """What a method does at the end of each epoch; it may hold what a checkpoint has to keep.

    What else of a method has a state of its own, a gradient, say, shares it with a hook.
    """

    def __call__(self, epoch: Epoch) -> None:
        """An epoch has ended."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {}

    def restore(self, state: dict[str, Any], passes: Passes) -> None:
        """Go on from `state`, before the epoch that is next has begun."""


@dataclass(frozen=True)
class Choice:
    """Which epoch's weights are decoded; without a column the last one's.

    Attributes:
        column: of the history that decides.
        largest: whether its largest value is taken, not its smallest; the first of equal ones.
        patience: epochs without a better one after which a search ends; None: it goes on to its end.
    """

    column: str | None = None
    largest: bool = False
    patience: int | None = None

    def best(self, history: Sequence[dict[str, Any]]) -> int:
        """The epoch that is taken of those so far, from 0."""
        if self.column is None:
            return len(history) - 1
        values = [row[self.column] for row in history]
        return values.index(max(values) if self.largest else min(values))

    def ends(self, history: Sequence[dict[str, Any]]) -> bool:
        """Whether a search ends here, before its last epoch."""
        if self.patience is None or not history:
            return False
        return len(history) - 1 - self.best(history) >= self.patience
