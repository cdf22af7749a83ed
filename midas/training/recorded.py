"""Any computation on the device recorded as a CUDA graph, and so the steps of a search."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch

from midas.images.loader import Draws, Loader
from midas.training.bilevel import Bilevel
from midas.training.sums import SearchSums


class RecordingError(RuntimeError):
    """A recording failed. It leaves torch's memory and streams as they are within one: the process can't go on with them."""


class Recorded:
    """A computation as a CUDA graph: one launch instead of thousands.

    It takes and gives nothing: all that it reads and changes are tensors that stay where they are. Its first calls compute as
    always, in which kernels are chosen and memory is taken; the next one records it, without computing; from there on it is
    replayed. Each call counts.

    Args:
        compute: the computation. Nothing in it may wait for the device or make a tensor of Python's data
            (tests/helpers/supernets/recordable.py says what else).
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


class RecordedSteps:
    """The bilevel steps of a search as CUDA graphs: batches, both passes, both optimisers and the epoch's sums in one launch.

    An epoch's draws lie on the device before its first step; a step finds its own by a number that counts there.

    Args:
        search: takes the steps.
        loaders: of the training and the validation half.
        sums: of the epoch.
    """

    def __init__(self, search: Bilevel, loaders: Sequence[Loader], sums: SearchSums):
        self.search, self.loaders, self.sums = search, loaders, sums
        self.next = torch.zeros(1, dtype=torch.int64, device=search.device)
        self.draws: list[Draws] = []
        self.graphs: dict[bool, Recorded] = {}
        self.changes = search.restrictions.changes

    def begin(self, epoch: int, first: int) -> None:
        """Draw an epoch, whose first step is the one of this number."""
        drawn = [loader.draw(epoch) for loader in self.loaders]
        self.draws = self.draws or drawn
        for kept, fresh in zip(self.draws, drawn, strict=True):
            for own, other in zip(kept, fresh, strict=True):
                if own is not None and other is not None:
                    own.copy_(other)
        self.next.fill_(first)

    def __call__(self, learns: bool) -> None:
        """Take the next step; see `Bilevel.architecture_step`."""
        if self.changes != self.search.restrictions.changes:  # what a graph does is what there was when it was recorded
            self.graphs, self.changes = {}, self.search.restrictions.changes
        if learns not in self.graphs:
            self.graphs[learns] = Recorded(partial(self.compute, learns))
        self.graphs[learns]()

    def compute(self, learns: bool) -> None:
        """What is recorded."""
        train, valid = (
            loader.batch(drawn.at(self.next)) for loader, drawn in zip(self.loaders, self.draws, strict=True)
        )
        self.search.step(train, valid, self.sums, learns)
        self.next += 1
