"""One forward and backward pass of a search, and any computation on the device recorded as a CUDA graph."""

from __future__ import annotations

import gc
from collections import deque
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


class RecordingError(RuntimeError):
    """A recording failed. It leaves torch's memory and streams as they are within one: the process can't go on with them."""


class Recorded:
    """A computation as a CUDA graph: one launch instead of thousands.

    It takes and gives nothing: all that it reads and changes are tensors that stay where they are. Its first calls compute as
    always, in which kernels are chosen and memory is taken; the next one records it, without computing; from there on it is
    replayed. Each call counts.

    Args:
        compute: the computation. Nothing in it may wait for the device or make a tensor of Python's data
            (tests/recordable.py says what else).
    """

    WARM_UP = 3
    """Calls before the recording."""
    AHEAD = 2
    """Calls that may wait for the device; without a limit seconds of work would be waiting when a step is asked to leave."""

    def __init__(self, compute: Callable[[], None]):
        self.compute, self.calls = compute, 0
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.waiting: deque[torch.cuda.Event] = deque()

    def __call__(self) -> None:
        """Compute once, on the current stream."""
        if self.calls < self.WARM_UP:
            self._aside()
        else:
            if self.graph is None:
                self._record()
            self.graph.replay()  # type: ignore[union-attr]
        self.calls += 1
        self.waiting.append(torch.cuda.current_stream().record_event())
        if len(self.waiting) > self.AHEAD:
            self.waiting.popleft().synchronize()

    def _aside(self) -> None:
        """Compute on the stream that will be recorded, whose memory a graph then finds."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.compute()
        torch.cuda.current_stream().wait_stream(self.stream)

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        gc.collect()
        gc.disable()  # a graph that is collected now would break the recording
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.compute()
        except Exception as error:
            raise RecordingError(f"no CUDA graph of it can be recorded: {error}") from error
        finally:
            gc.enable()
        self.graph = graph
