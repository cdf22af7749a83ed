"""How many parameters a network has, and how many multiply-adds it takes."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count(network: nn.Module, image: tuple[int, int]) -> tuple[int, int]:
    """Count a network; nothing is computed on its device.

    Args:
        network: stays as it is.
        image: height and width in pixels.

    Returns:
        Parameters without those of an auxiliary head; multiply-adds of convolutions and linear layers for one image.
    """
    params = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))
    twin = deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.empty(1, 3, *image, device="meta"))
    return params, counter.get_total_flops() // 2
