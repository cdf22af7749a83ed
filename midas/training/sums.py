"""What an epoch of a search comes to: sums over its batches, kept on the device until its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from midas.running.durable import FirstBad


class Averages:
    """Sums over the batches of an epoch, in tensors that stay where they are."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count: Tensor | None = None
        self.bad = FirstBad()

    @property
    def batches(self) -> int:
        """Batches that were added."""
        return 0 if self.count is None else int(self.count)

    def add(self, **values: Tensor | None) -> None:
        """Add one batch's values."""
        for name, value in values.items():
            if value is not None:
                if self.count is None:
                    self.count = torch.zeros((), dtype=torch.int64, device=value.device)
                if name.endswith("loss"):
                    self.bad.look(value, self.count)
                if name not in self.sums:
                    self.sums[name] = torch.zeros_like(value)
                self.sums[name] += value
        assert self.count is not None
        self.count += 1

    def clear(self) -> None:
        """Begin anew."""
        for kept in (*self.sums.values(), self.count):
            if kept is not None:
                kept.zero_()
        self.bad.clear()

    def mean(self, name: str) -> np.ndarray | None:
        """Mean over batches, in double precision; None for what was never added."""
        return (self.sums[name].double() / self.batches).cpu().numpy() if name in self.sums else None

    def number(self, name: str) -> float:
        """Mean of a scalar."""
        return float(self.sums[name].double() / self.batches)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": self.sums, "batches": self.batches}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.count = torch.tensor(state["batches"], device=device)


class SearchSums:
    """What an epoch has come to so far: the steps that are done, and sums over them."""

    def __init__(self) -> None:
        self.step, self.train, self.valid = 0, Averages(), Averages()

    def clear(self) -> None:
        """Begin an epoch."""
        self.step = 0
        self.train.clear()
        self.valid.clear()

    def check(self, epoch: int) -> None:
        """Stop where a loss isn't finite; epochs count from 0."""
        min(self.valid.bad, self.train.bad, key=FirstBad.number).check("search", epoch)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "train": self.train.state(), "valid": self.valid.state()}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        self.train.restore(state["train"], device)
        self.valid.restore(state["valid"], device)


def entropy(p: Tensor) -> Tensor:
    """Mean entropy in nats of the distribution over the operations of an edge, p [images, cells, edges, operations]."""
    share = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    return torch.special.entr(share).sum(-1).mean()
