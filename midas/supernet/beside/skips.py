"""Extra skip connections: on every edge one more map beside the candidates, whose weight no architecture parameter sets.

They are a method's (DARTS-), or belong to the edges of a space, with the constant weight 1 (`Space.beside`).

At stride 1 it is the edge's input itself, which often enters the node's sum already, as the candidate skip_connect: then the two
weights are added, and nothing more is read. At stride 2 it is a factorized reduction of its own, see `Candidates.add_skips`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from midas.images.seeds import generator
from midas.spaces import CellSpec
from midas.supernet.candidates import EXTRA
from midas.supernet.mixture import Candidate
from midas.supernet.weights import NodeSlots, Skips


class SkipWeight(nn.Module):
    """The weight of all extra skip connections of a supernet; a checkpoint keeps it.

    Args:
        schedule: from the epoch, a tensor [], to the weight.

    Attributes:
        now: the weight, a tensor [] that stays where it is.
    """

    now: Tensor

    def __init__(self, schedule: Callable[[Tensor], Tensor]):
        super().__init__()
        self.schedule = schedule
        self.register_buffer("now", schedule(torch.zeros((), dtype=torch.int64)).float())

    def begin(self, epoch: Tensor) -> None:
        """An epoch begins."""
        self.now.copy_(self.schedule(epoch))


class NodeSkips(nn.Module):
    """The extra skip connections of the edges that end in one node.

    Args:
        spec: kind of cell.
        slots: of the node.
    """

    onto: Tensor

    def __init__(self, spec: CellSpec, slots: NodeSlots):
        super().__init__()
        one = [spec.stride == 1 or spec.edges[edge][0] >= spec.inputs for edge in slots.edges]
        plain = [(edge, "skip_connect") for edge, itself in zip(slots.edges, one, strict=True) if itself]
        within = [slots.keys.index(key) for key in plain if key in slots.keys]
        self.edges, self.keys, self.same = slots.edges, slots.keys, {slots.keys[number] for number in within}
        self.apart = [edge for edge in slots.edges if edge not in {slots.keys[number][0] for number in within}]
        self.register_buffer(
            "onto", torch.zeros(len(slots.keys)).index_fill(0, torch.tensor(within).long(), 1.0), False
        )

    def forward(
        self,
        found: Mapping[tuple[int, str], Candidate],
        weight: Tensor,
        chosen: Container[tuple[int, str]] | None = None,
    ) -> Skips:
        """They as they enter the node's sum.

        Args:
            found: (edge, operation) -> candidate.
            weight: of each, a tensor [].
            chosen: candidates that take part in this pass; None: all.
        """
        onto, apart = self.onto, self.apart
        if chosen is not None:
            taken = [key for key in self.keys if key in chosen]
            onto = onto.new_tensor([float(key in self.same) for key in taken])
            there = {edge for edge, name in taken if (edge, name) in self.same}
            apart = [edge for edge in self.edges if edge not in there]
        return Skips(weight, onto, [found[edge, EXTRA] for edge in apart], [found[edge, EXTRA] for edge in self.edges])


@contextmanager
def own_stream() -> Iterator[None]:
    """Within it parameters are drawn by another stream of the same seed; what is drawn afterwards is as if nothing had been."""
    state = torch.get_rng_state()
    torch.set_rng_state(generator(torch.initial_seed(), EXTRA, 0, 0).get_state())
    try:
        yield
    finally:
        torch.set_rng_state(state)
