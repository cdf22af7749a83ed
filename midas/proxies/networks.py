"""Networks that scores are computed on: of any cell of any space, with normalisation, without, or in the reductions alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from midas.networks.depthwise import use_own_gradients
from midas.networks.skeletons import ResidualBlock, Skeleton, build
from midas.proxies.probing import Probe, layers_of
from midas.spaces import SPACES
from midas.spaces.genotype import Genotype

Norms = Literal["all", "reductions", "none"]
"""Where a network has batch normalisation: everywhere as it is trained, in what halves its maps, nowhere."""


def make_network(genotype: Genotype, channels: int, cells: int, classes: int, norms: Norms) -> Skeleton:
    """An untrained network of a cell.

    Args:
        genotype: of any space.
        channels: initial channels.
        cells: in all (DARTS) or in each of the three stages (NAS-Bench-201).
        classes: number of classes.
        norms: where normalisation stays. Convolutions that lose theirs within cells get biases, as in CRoZe's code.

    Raises:
        ValueError: no network can be built of it.
    """
    network = build(genotype, channels, cells, classes)
    use_own_gradients(network, False)  # they know no biases, and are of no use in float64
    if norms != "all":
        kept = reductions(genotype, cells) if norms == "reductions" else []
        inner = [cell for place, cell in enumerate(network.cells) if place not in kept]
        for part in (*(child for name, child in network.named_children() if name != "cells"), *inner):
            _strip(part)
        for cell in inner:
            if not isinstance(cell, ResidualBlock):
                _add_biases(cell)
    return network


def reductions(genotype: Genotype, cells: int) -> list[int]:
    """Places of the layers of a skeleton of so many `cells` that halve their maps."""
    layers = SPACES[genotype.space].skeleton(cells)
    return [i for i, layer in enumerate(layers) if layer.shrink > (layers[i - 1].shrink if i else 1)]


def probe_by_stages(genotype: Genotype, network: Skeleton, cells: int) -> Probe:
    """A network with a feature for each layer, as CRoZe's code has them.

    Features are the maps of the stem, of each reduction, of the last cell (after the ReLU of the head if it has one), and the
    pooled map of the head. A layer's feature is the one after as many stages as are complete with its cell: all cells of a stage
    but its last look at the map before the stage. The original does so in NAS-Bench-201; for other skeletons this is the same
    rule, not its code.
    """
    halving = reductions(genotype, cells)
    last = len(network.cells) - 1
    head = {f"head.{name}": module for name, module in network.get_submodule("head").named_children()}
    final = next((name for name, module in head.items() if isinstance(module, nn.ReLU)), f"cells.{last}")
    pooled = next(name for name, module in head.items() if isinstance(module, nn.AdaptiveAvgPool2d))
    features = ["stem", *(f"cells.{place}" for place in halving), final]
    ends = [place - 1 for place in halving] + [last]
    feature_of = {}
    for layer in layers_of(network):
        part, _, rest = layer.partition(".")
        if part == "cells":
            place = int(rest.partition(".")[0])
            feature_of[layer] = features[sum(end <= place for end in ends)]
        else:
            feature_of[layer] = pooled if part == "head" else features[0]
    return Probe(network, feature_of)


def _strip(module: nn.Module) -> None:
    """Replace every batch normalisation within a module by nothing."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


def _add_biases(module: nn.Module) -> None:
    """Give every convolution of a module a bias, drawn as torch draws it."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and child.bias is None:
            fan_in = child.weight[0].numel()
            drawn = torch.empty(child.out_channels, dtype=child.weight.dtype)
            child.bias = nn.Parameter(nn.init.uniform_(drawn, -(fan_in**-0.5), fan_in**-0.5))
