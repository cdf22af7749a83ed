"""Scores that are older than the robust ones, for comparison: SynFlow, gradient norm, number of parameters.

Definitions: Tanaka et al., NeurIPS 2020 (SynFlow); Abdelfattah et al., ICLR 2021 (as scores of whole networks).
"""

from __future__ import annotations

import torch
from torch import nn

from midas.proxies.probing import absolute, copied, gradient, layers_of


def synflow_scores(network: nn.Module, image: tuple[int, int]) -> dict[str, float]:
    """SynFlow of every layer: the sum of |W dR/dW|, R the sum of the logits for one image of ones, all parameters absolute.

    Args:
        network: gives logits; a copy in float64 is taken. Its normalisations take the image's own statistics.
        image: height and width in pixels.
    """
    flowing = absolute(copied(network, torch.float64))
    flowing(torch.ones(1, 3, *image, dtype=torch.float64)).sum().backward()
    layers = layers_of(flowing).items()
    return {name: float((layer.weight.detach() * gradient(layer)).abs().sum()) for name, layer in layers}


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """Euclidean norm of the gradient of every layer's weight, as `midas.proxies.probing.backward` left it."""
    return {name: float(gradient(layer).norm()) for name, layer in layers_of(network).items()}


def parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
