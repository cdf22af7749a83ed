"""CRoZe (Ha, Kim and Hwang, NeurIPS 2023): how alike a network and its perturbed copy are on clean and attacked images.

Two readings of one idea. `code_scores` computes what the authors' code does (HyeonjeongHa/CRoZe,
zero_cost_methods/pruners/measures/croze.py), `paper_scores` the formula of the paper. Its constants beta and gamma, and what
counts as the features of a layer, were not to be read in the paper: they are this project's choice.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midas.proxies.probing import Probe, absolute, backward, copied, gradient, gradient_of, layers_of

SMALLEST = 1e-8
"""Norms below it count as this in a cosine; that of a vector of zeros is then 0 (torch's definition)."""


@dataclass(frozen=True)
class Constants:
    """Constants of both readings.

    Attributes:
        ascent: beta, the step of the weights uphill as a multiple of each tensor's norm.
        attack: epsilon, the step of the pixels, in units of the normalised image.
        descent: gamma, the step of the weights downhill before they are compared; of the paper's formula alone.
    """

    ascent: float = 2.0
    attack: float = 0.01
    descent: float = 0.001


@dataclass(frozen=True)
class Factors:
    """Consistency of one layer: of its weights, of their gradients, of its features."""

    parameter: float
    gradient: float
    feature: float

    @property
    def score(self) -> float:
        """The product of the three."""
        return self.parameter * self.gradient * self.feature


def uphill(weight: Tensor, grad: Tensor, ascent: float) -> Tensor:
    """A weight moved along its gradient by `ascent` times its own norm; unchanged where the gradient is 0."""
    norm = grad.norm()
    return weight if norm == 0 else weight + ascent * weight.norm() * grad / norm


def attacked_down(x: Tensor, grad: Tensor, attack: float) -> Tensor:
    """Images as the code attacks them: against the gradient's sign, then clamped to 0..1, though x [B, 3, H, W] is normalised."""
    return (x - attack * grad.sign()).clamp(0, 1)


def attacked_up(x: Tensor, grad: Tensor, attack: float) -> Tensor:
    """Images x [B, 3, H, W] by the fast gradient sign method (Goodfellow et al., ICLR 2015)."""
    return x + attack * grad.sign()


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines along the first axis of tensors [n, ...] -> [...]: of weights over output channels, of maps over images."""
    return F.cosine_similarity(a, b, dim=0, eps=SMALLEST)


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two tensors taken as vectors."""
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=SMALLEST))


def code_factors(weights: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor], maps: tuple[Tensor, Tensor]) -> Factors:
    """Factors of a layer as the code has them: sums over all but the first axis, so they grow with the layer's size.

    Args:
        weights: clean and perturbed [out, ...].
        grads: of both [out, ...].
        maps: features of both [B, ...].
    """
    return Factors(
        float((1 + cosines(*weights)).sum()), float(cosines(*grads).abs().sum()), float((1 + cosines(*maps)).sum())
    )


def paper_factors(
    weights: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor], maps: tuple[Tensor, Tensor], descent: float
) -> Factors:
    """Factors of a layer by the paper's formula: P = 1 + cos(w - gamma g, w' - gamma g'), G = |cos(g, g')|, Z = 1 + cos(z, z').

    Arguments are as of `code_factors`; `descent` is gamma.
    """
    moved = [weight - descent * grad for weight, grad in zip(weights, grads, strict=True)]
    return Factors(1 + cosine(*moved), abs(cosine(*grads)), 1 + cosine(*maps))


def perturbed(network: nn.Module, ascent: float) -> nn.Module:
    """A copy of a network with gradients, all its tensors of two axes or more moved `uphill`."""
    moved = deepcopy(network)  # which has no gradients
    with torch.no_grad():
        for parameter, own in zip(network.parameters(), moved.parameters(), strict=True):
            if parameter.ndim > 1 and parameter.grad is not None:
                own.copy_(uphill(parameter, parameter.grad, ascent))
    return moved


@dataclass(frozen=True)
class Pair:
    """A network and its perturbed copy, with gradients, and the maps of each; what both readings compare."""

    clean: nn.Module
    robust: nn.Module
    maps: tuple[dict[str, Tensor], dict[str, Tensor]]
    attacked: Tensor

    def of(self, layer: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weights and gradients of a layer of both networks."""
        both = [layers_of(network)[layer] for network in (self.clean, self.robust)]
        return (both[0].weight.detach(), both[1].weight.detach()), (gradient(both[0]), gradient(both[1]))


def code_pair(probe: Probe, x: Tensor, y: Tensor, constants: Constants) -> Pair:
    """Both networks as the code has them, in float64: absolute weights; the copy's gradients on both kinds of images add up."""
    watched, x = set(probe.feature_of.values()), x.double()
    clean = absolute(copied(probe.network, torch.float64))
    before = backward(clean, x, y, watched)
    robust, moving = perturbed(clean, constants.ascent), x.clone().requires_grad_()
    backward(robust, moving, y, set())
    attacked = attacked_down(x, gradient_of(moving), constants.attack)
    return Pair(clean, robust, (before, backward(robust, attacked, y, watched)), attacked)


def paper_pair(probe: Probe, x: Tensor, y: Tensor, constants: Constants) -> Pair:
    """Both networks by the paper, in the images' type: weights with their signs, the copy's gradients of the attacked images."""
    watched = set(probe.feature_of.values())
    clean = copied(probe.network, x.dtype)
    before = backward(clean, x, y, watched)
    robust, moving = perturbed(clean, constants.ascent), x.clone().requires_grad_()
    robust.requires_grad_(False)  # of the images alone: half the work
    backward(robust, moving, y, set())
    robust.requires_grad_(True)
    attacked = attacked_up(x, gradient_of(moving), constants.attack)
    return Pair(clean, robust, (before, backward(robust, attacked, y, watched)), attacked)


def code_scores(probe: Probe, x: Tensor, y: Tensor, constants: Constants | None = None) -> dict[str, Factors]:
    """The factors of every layer as the code computes them; the score of the network is the sum of theirs.

    Args:
        probe: `feature_of` names a feature for every layer.
        x: normalised images [B, 3, H, W].
        y: classes [B].
        constants: None for the code's.
    """
    pair = code_pair(probe, x, y, constants or Constants())
    found = {}
    for layer in probe.layers():
        name = probe.feature_of[layer]
        found[layer] = code_factors(*pair.of(layer), (pair.maps[0][name], pair.maps[1][name]))
    return found


def paper_scores(pair: Pair, constants: Constants | None = None) -> dict[str, Factors]:
    """The same by the paper's formula, of what `paper_pair` found with `outputs` as features."""
    layers, found = list(layers_of(pair.clean)), {}
    for layer in layers:
        if layer in pair.maps[0]:  # else it isn't part of what is computed
            maps = [part[layer] if layer == layers[-1] else part[layer].relu() for part in pair.maps]
            weights, grads = pair.of(layer)
            found[layer] = paper_factors(weights, grads, (maps[0], maps[1]), (constants or Constants()).descent)
    return found


def outputs(network: nn.Module) -> Probe:
    """A network whose layers' features are what they give; `paper_scores` puts a ReLU after all but the last one, the logits."""
    return Probe(network, {layer: layer for layer in layers_of(network)})


def total(factors: dict[str, Factors]) -> float:
    """The score of a network: the sum of its layers'."""
    return sum(found.score for found in factors.values())
