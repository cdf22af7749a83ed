"""DrNAS (Chen et al., ICLR 2021): static weights are drawn from a Dirichlet distribution that the architecture is learned of.

An edge's weights are drawn once in a forward pass, for all cells of a kind, in both steps and in evaluation: never their mean.
The concentration is ELU(alpha) + 1, no softplus and no exponential; alpha near 0 is the uniform distribution on the simplex.
The history's weights and entropy are means over draws; the weights that are dumped and decoded are not drawn.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from midas.methods.distributions import Distribution, edge_softmax
from midas.methods.epochs import Epoch, Hook
from midas.methods.field.logits import static_logits
from midas.methods.passes import Term
from midas.methods.static import StaticMixing
from midas.supernet import Supernet


def concentration(s: Tensor) -> Tensor:
    """ELU(s) + 1 of logits of any shape: s + 1 above 0, exp(s) below; 1 where s is -inf, that is where nothing is offered.

    It is at least the smallest step of the numbers next to 1: below, the original's is 0, which its sampler refuses.
    """
    s = s.masked_fill(s == -torch.inf, 0)
    return torch.where(s > 0, s + 1, s.clamp(max=0).exp()).clamp(min=torch.finfo(s.dtype).eps)


def edge_dirichlet(s: Tensor) -> tuple[Tensor, None]:
    """A draw of each edge's weights of logits s [..., E, O], -inf where an edge does not offer an operation; pathwise gradient.

    All operations are drawn, what is not offered is taken out, and the rest is divided by its sum, as the original prunes. What
    is left is distributed as a Dirichlet of the concentrations that are left.
    """
    p = Dirichlet(concentration(s), validate_args=False).rsample()  # a validation would ask the device for a number
    return _shares(p, s), None


def edge_mean(s: Tensor) -> tuple[Tensor, None]:
    """The mean of that draw: concentrations divided by their sum over what is offered."""
    return _shares(concentration(s), s), None


DECODED: dict[str, Distribution] = {"code": edge_softmax, "paper": edge_mean}
"""What is decoded. By both an edge has the operation with the largest alpha, but a node's two best edges may be others."""


def divergence(s: Tensor) -> Tensor:
    """KL(Dirichlet(concentration) || Dirichlet(1)) of each edge [...] of logits s [..., O], over what the edge offers.

    What was pruned counts with its alpha, as in the original.
    """
    offered = s > -torch.inf
    c = concentration(s)
    total, count = (c * offered).sum(-1, keepdim=True), offered.sum(-1).to(c.dtype)
    moved = ((c - 1) * (c.digamma() - total.digamma())).sum(-1)  # 0 where c is 1
    return total[..., 0].lgamma() - c.lgamma().sum(-1) - count.lgamma() + moved


def kl(factor: float = 1e-3) -> Term:
    """DrNAS's regulariser "kl": a factor times the sum of `divergence` over all edges of all kinds of cell.

    It takes the place of Adam's decay of alpha, which is the regulariser "l2".
    """

    def term(supernet: Supernet, epoch: Tensor) -> Tensor:
        return factor * torch.stack([divergence(s).sum() for s in static_logits(supernet)]).sum()

    return term


def stages(epochs: int, count: int) -> list[range]:
    """The epochs of each stage of a search: `count` stages that are equally long, but for what a division leaves."""
    starts = [epochs * stage // count for stage in range(count + 1)]
    return [range(first, end) for first, end in pairwise(starts)]


def waits(epochs: int, count: int, wait: int) -> tuple[range, ...]:
    """The epochs at the start of each stage in which alpha does not learn."""
    return tuple(stage[:wait] for stage in stages(epochs, count)) if wait else ()


def largest(alpha: Tensor, count: int, allowed: Tensor) -> Tensor:
    """Which operations an edge keeps, bool [edges, O]: those of the largest alpha [edges, O], at most `count`, if allowed."""
    ranked = alpha.detach().masked_fill(~allowed, -torch.inf)
    best = ranked.topk(min(count, alpha.shape[1]), -1).indices
    return torch.zeros_like(allowed).scatter(-1, best, True) & allowed


class Pruning(Hook):
    """Keeps fewer operations from stage to stage, by the raw alpha of an edge.

    What is pruned has alpha 0 and is masked after the draw; Adam's averages stay. It is never given back. The hook itself has no
    state: the epochs that are done say the stage, and a checkpoint keeps the mask.

    Args:
        keep: operations of an edge in each stage but the first.
        epochs: of the search.
    """

    def __init__(self, keep: list[int], epochs: int):
        starts = [stage.start for stage in stages(epochs, len(keep) + 1)]
        self.at = dict(zip(starts[1:], keep, strict=True))

    @torch.no_grad()
    def __call__(self, epoch: Epoch) -> None:
        """See `Hook`."""
        count = self.at.get(len(epoch.history))
        if count is None:
            return
        supernet, mask, kept = epoch.passes.supernet, epoch.restrictions.mask, {}
        for kind, mixing in {k: cell.mixing for k, cell in zip(supernet.kinds, supernet.cells, strict=True)}.items():
            assert isinstance(mixing, StaticMixing)
            allowed = ~mixing.missing if mask is None else mask.kept[kind] & ~mixing.missing
            kept[kind] = largest(mixing.alpha, count, allowed)
            mixing.alpha.masked_fill_(~kept[kind], 0)
        epoch.restrictions.keep(kept, renormalises=True)


def _shares(x: Tensor, s: Tensor) -> Tensor:
    """Positive x [..., O] as shares of its sum over what logits s offer; 0 elsewhere."""
    x = x * (s > -torch.inf)
    return x / x.sum(-1, keepdim=True)
