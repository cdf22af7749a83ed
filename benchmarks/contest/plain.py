"""The yardstick: a static supernet as public code writes it, one module for each edge and candidate, mixed in a loop.

After quark0/darts (cnn/model_search.py) and D-X-Y/AutoDL-Projects: a node adds up, edge by edge, the weighted outputs of all
candidates; maps lie channel by channel, weights and normalised maps are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midas.networks.depthwise import use_own_gradients
from midas.networks.operations import FactorizedReduce, ReLUConvBN, make
from midas.networks.skeletons import SKELETONS
from midas.spaces import CellSpec, Space


def search_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm of the candidates."""
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


class MixedOperation(nn.Module):
    """All candidates of one edge."""

    def __init__(self, offered: tuple[str, ...], channels: int, stride: int, pool_norm: bool):
        super().__init__()
        self.candidates = nn.ModuleList(make(name, channels, stride, search_norm, pool_norm) for name in offered)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Sum of the candidates' maps, weighted."""
        return sum(weight * module(x) for weight, module in zip(weights, self.candidates, strict=True))


class PlainCell(nn.Module):
    """One cell; `alpha` [edges, operations] is shared by all cells of its kind."""

    def __init__(self, spec: CellSpec, space: Space, alpha: nn.Parameter, preprocess: list[nn.Module], channels: int):
        super().__init__()
        self.spec, self.alpha, self.concatenates = spec, alpha, space.family == "darts"
        self.preprocess = nn.ModuleList(preprocess)
        self.edges = nn.ModuleList(
            MixedOperation(offered, channels, spec.stride if source < spec.inputs else 1, space.pool_norm)
            for (source, _), offered in zip(spec.edges, spec.candidates, strict=True)
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """The cell's map."""
        states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        weights = self.alpha.softmax(-1)
        for node in self.spec.nodes:
            found = [self.edges[e](states[self.spec.edges[e][0]], weights[e]) for e in self.spec.incoming(node)]
            states.append(sum(found))
        return torch.cat(states[self.spec.inputs :], 1) if self.concatenates else states[-1]


class PlainSupernet(nn.Module):
    """The supernet; arguments as in `midas.supernet.Supernet`. Every edge must offer all operations of the space."""

    def __init__(self, space: Space, channels: int, cells: int, classes: int):
        super().__init__()
        self.alphas = nn.ParameterDict(
            {k: nn.Parameter(1e-3 * torch.randn(len(s.edges), len(space.operations))) for k, s in space.cells.items()}
        )

        def make_cell(kind: str, channels_in: tuple[int, ...], width: int, reduction_prev: bool) -> nn.Module:
            preprocess: list[nn.Module] = [nn.Identity() for _ in channels_in]
            if space.family == "darts":
                older = FactorizedReduce if reduction_prev else ReLUConvBN
                preprocess = [older(channels_in[0], width, norm=search_norm)]
                preprocess.append(ReLUConvBN(channels_in[1], width, norm=search_norm))
            return PlainCell(space.cells[kind], space, self.alphas[kind], preprocess, width)

        self.skeleton = SKELETONS[space.family](make_cell, channels, cells, classes, space=space)
        use_own_gradients(self, fast=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, H, W]."""
        return self.skeleton(x)
