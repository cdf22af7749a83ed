"""Raw architecture parameters, for terms of the architecture's loss that are written in them."""

from __future__ import annotations

import torch
from torch import Tensor

from midas.methods.static import StaticMixing
from midas.supernet import Supernet


def static_logits(supernet: Supernet) -> list[Tensor]:
    """Static architecture parameters [edges, O] of each kind of cell, -inf where an edge does not offer an operation."""
    mixings = {id(cell.mixing): cell.mixing for cell in supernet.cells}  # cells of a kind share theirs
    logits = []
    for mixing in mixings.values():
        assert isinstance(mixing, StaticMixing)
        logits.append(mixing.alpha.masked_fill(mixing.missing, -torch.inf))
    return logits
