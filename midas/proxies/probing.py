"""What a score needs of a network: its layers by name, the maps that it looks at, the loss's gradients on one batch."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maps = dict[str, Tensor]
"""Name of a module -> what it gave for a batch."""


@dataclass(frozen=True)
class Probe:
    """An untrained network that is scored.

    Attributes:
        network: gives logits [B, classes] of images [B, 3, H, W]; scores work on copies of it.
        feature_of: name of a layer -> name of the module whose output is that layer's feature; none where no score asks.
    """

    network: nn.Module
    feature_of: dict[str, str] = field(default_factory=dict)

    def layers(self) -> list[str]:
        """Names of the convolutions and linear layers, in the network's order."""
        return list(layers_of(self.network))


def layers_of(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers of a network by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def copied(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of some type in training mode, without gradients: normalisations take the statistics of the batch."""
    found = deepcopy(network).to(dtype).train()
    for parameter in found.parameters():
        parameter.grad = None
        parameter.requires_grad_()
    return found


@torch.no_grad()
def absolute(network: nn.Module) -> nn.Module:
    """Replace every parameter of a network by its absolute value."""
    for parameter in network.parameters():
        parameter.abs_()
    return network


def backward(network: nn.Module, x: Tensor, y: Tensor, watched: set[str]) -> Maps:
    """Add the gradient of the mean cross entropy to the parameters' and, where it asks for one, the images' `grad`.

    Args:
        network: gives logits.
        x: images [B, 3, H, W].
        y: classes [B].
        watched: names of modules.

    Returns:
        What these modules gave, detached.
    """
    maps: Maps = {}

    def remember(name: str) -> None:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            maps[name] = output.detach()

        handles.append(network.get_submodule(name).register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in watched:
        remember(name)
    try:
        loss = F.cross_entropy(network(x), y)
        if loss.requires_grad:  # else a network that is cut apart, of images alone
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    return maps


def gradient_of(x: Tensor) -> Tensor:
    """Gradient of a tensor; zeros where the loss doesn't depend on it, as on what lies behind the operation none."""
    return torch.zeros_like(x) if x.grad is None else x.grad.clone()


def gradient(layer: nn.Module) -> Tensor:
    """Gradient of a layer's weight."""
    assert isinstance(layer.weight, Tensor)
    return gradient_of(layer.weight)
