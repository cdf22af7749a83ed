"""Static architecture parameters as the source of mixing weights (DARTS, Liu et al., ICLR 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from midas.methods.distributions import Distribution, edge_softmax
from midas.spaces import CellSpec, Space
from midas.supernet.weights import Source, Weights


class StaticMixing(Source):
    """DARTS's architecture parameters: one logit for each (edge, operation), shared by all cells of a kind and all images.

    Args:
        spec: kind of cell.
        space: its space.
        distribution: from logits to weights.
        draws: whether it draws at random. Then weights are computed once in a forward pass, and all cells share them; else
            each cell asks for its own, which are the same.
        settles: from logits to the weights that are decoded in the place of drawn ones.
        decay: weight decay of the parameters, None for that of the search.
        spread: standard deviation of the logits at the start.
    """

    attends = False

    def __init__(
        self,
        spec: CellSpec,
        space: Space,
        distribution: Distribution,
        draws: bool = False,
        settles: Distribution = edge_softmax,
        decay: float | None = None,
        spread: float = 1e-3,
    ):
        super().__init__(spec, space)
        self.alpha = nn.Parameter(spread * torch.randn(len(spec.edges), len(space.operations)))
        self.distribution, self.draws, self.settles, self.decay = distribution, draws, settles, decay
        self.drawn: dict[int, Weights] = {}
        offered = torch.tensor([[o in candidates for o in space.operations] for candidates in spec.candidates])
        self.missing: torch.Tensor
        self.register_buffer("missing", ~offered, persistent=False)

    def begin(self, epoch: torch.Tensor, whole: bool) -> None:
        """See `Source.begin`."""
        self.drawn.clear()

    def forward(self, node: int, *_: object) -> Weights:
        """Weights of a node, the same for all images; the other arguments of `Source.forward` are not used."""
        if not self.draws:
            return self._weights(node)
        if node not in self.drawn:
            self.drawn[node] = self._weights(node)
        return self.drawn[node]

    def settled(self, node: int) -> torch.Tensor | None:
        """See `Source.settled`: by default the softmax of the logits, as the methods that draw are decoded."""
        return self.settles(self._logits(node))[0].detach() if self.draws else None

    def learns(self) -> list[tuple[list[nn.Parameter], dict[str, Any]]]:
        """See `Source.learns`."""
        if self.decay is None:
            return super().learns()
        others = [p for p in self.parameters() if p.requires_grad and p is not self.alpha]
        own: tuple[list[nn.Parameter], dict[str, Any]] = ([self.alpha], {"weight_decay": self.decay})
        return [own, *([(others, {})] if others else [])]

    def _weights(self, node: int) -> Weights:
        logits = self._logits(node)
        with torch.autocast(logits.device.type, enabled=False):
            p, pi = self.distribution(logits)
            return Weights(p, pi, self.slots[node].share(p))

    def _logits(self, node: int) -> torch.Tensor:
        """[1, E, O], -inf where an operation is missing."""
        rows = self.slots[node].rows
        return self.alpha[rows].masked_fill(self.missing[rows], -torch.inf)[None]
