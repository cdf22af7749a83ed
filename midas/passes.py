"""One forward and backward pass of a search, computed anew each time or replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class TrainingPass(NamedTuple):
    """What a forward and a backward pass leave: loss and accuracy, gradients, and the weights p and pi (`Supernet.mixture`)."""

    loss: Tensor
    accuracy: Tensor
    gradients: tuple[Tensor | None, ...]
    p: Tensor
    pi: Tensor | None


Pass = Callable[[Tensor, Tensor], TrainingPass]
"""Images and labels -> what a training pass leaves."""


class Replayed:
    """A training pass as a CUDA graph, recorded at the first call and replayed from then on: one launch instead of thousands.

    What it returns is overwritten by the next call. Batches must have the shape of the first.
    """

    WARM_UP = 3
    """Calls before the recording, in which kernels are chosen and memory is taken."""

    def __init__(self, compute: Pass):
        self.compute = compute
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, y: Tensor) -> TrainingPass:
        """Images and labels -> what the pass leaves."""
        if self.graph is None:
            self._record(x, y)
        self.x.copy_(x)
        self.y.copy_(y)
        assert self.graph is not None
        self.graph.replay()
        return self.found

    def _record(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x.clone(), y.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UP):
                self.compute(self.x, self.y)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.found = self.compute(self.x, self.y)
