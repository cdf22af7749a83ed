"""The oracle: a supernet with one module per edge and candidate, mixed as the paper's text reads, with no thought of speed.

It shares with the merged supernet the definitions of operations and skeletons (which the published parameter counts check)
and nothing of how candidates are computed, attended to and mixed.
"""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import nn

from midas.networks.depthwise import use_own_gradients
from midas.networks.operations import FactorizedReduce, ReLUConvBN, make
from midas.networks.skeletons import SKELETONS


def norm(channels):
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def network_norm(channels):
    return nn.BatchNorm2d(channels, track_running_stats=False)


def patches(x, grid):
    """[B, C, H, W] -> list of [B, C] means, row by row."""
    rows, columns = x.shape[2] // grid[0], x.shape[3] // grid[1]
    return [
        x[:, :, r * rows : (r + 1) * rows, c * columns : (c + 1) * columns].mean((2, 3))
        for r in range(grid[0])
        for c in range(grid[1])
    ]


def pixels(x, weight):
    """A projection of each pixel."""
    return torch.einsum("bchw,dc->bdhw", x, weight)


def distribute(logits, kind):
    """Weights of {(edge, operation): [B]} logits, by listing."""
    if kind == "pairs":
        total = sum(torch.exp(logits[a] + logits[b]) for a, b in combinations(logits, 2) if a[0] != b[0])
        return {a: sum(torch.exp(logits[a] + logits[b]) for b in logits if b[0] != a[0]) / total for a in logits}
    group = (lambda key: key[0]) if kind == "edge" else (lambda key: None)
    return {a: torch.exp(logits[a]) / sum(torch.exp(logits[b]) for b in logits if group(b) == group(a)) for a in logits}


class PlainCell(nn.Module):
    def __init__(self, spec, space, method, distribution, preprocess, channels, alpha, beta):
        super().__init__()
        self.spec, self.space, self.method, self.distribution = spec, space, method, distribution
        self.preprocess, self.channels, self.alpha = nn.ModuleList(preprocess), channels, alpha
        self.parts, self.beta = method.partial.channels if method.partial else 1, beta
        narrow = channels // self.parts
        self.operations = nn.ModuleList()
        for (source, _), offered in zip(spec.edges, spec.candidates, strict=True):
            stride = spec.stride if source < spec.inputs else 1
            self.operations.append(
                nn.ModuleDict({name: make(name, narrow, stride, norm, space.pool_norm) for name in offered})
            )
        self.skips = nn.ModuleList()
        for source, _ in spec.edges if method.extra_skip or space.beside else ():
            self.skips.append(make("skip_connect", channels, spec.stride if source < spec.inputs else 1, norm))
        self.query, self.key, self.log_scale = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        if method.weights == "attention":
            keys = len(space.operations) if method.keys == "per_operation" else 1
            for node in spec.nodes:
                edges = len(spec.incoming(node))
                self.query[str(node)] = nn.Parameter(torch.empty(channels, edges * channels))
                self.key[str(node)] = nn.Parameter(torch.empty(keys, channels, narrow))
                if method.learn_scale:
                    self.log_scale[str(node)] = nn.Parameter(torch.empty(()))

    def forward(self, *inputs):
        states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        height, width = (side // self.spec.stride for side in states[0].shape[2:])
        size = self.method.patch_size
        grid = (max(1, height // size), max(1, width // size)) if size else (1, 1)
        self.p = []
        for node in self.spec.nodes:
            maps = {
                (edge, name): module(states[self.spec.edges[edge][0]][:, : self.channels // self.parts])
                for edge in self.spec.incoming(node)
                for name, module in self.operations[edge].items()
            }
            if self.method.weights == "static":
                logits = {
                    key: self.alpha[key[0], self.space.operations.index(key[1])].expand(len(inputs[0])) for key in maps
                }
                weights = [distribute(logits, self.distribution)]
            else:
                weights = self.attend(node, states, maps, grid)
            mean = {key: sum(w[key] for w in weights) / len(weights) for key in maps}
            share = self.of_edges(node)
            self.p.append({key: value * share[key[0]] for key, value in mean.items()})
            if self.method.partial:
                states.append(sum(share[e] * self.edge(e, states, mean, maps, weights, grid) for e in share))
            elif self.method.mixing == "patch" and self.method.weights == "attention":
                states.append(sum(self.spread([w[key] for w in weights], grid, maps[key]) * maps[key] for key in maps))
            else:
                states.append(sum(mean[key][:, None, None, None] * maps[key] for key in maps))
            if self.skips:  # in the first epoch
                first, edges = self.method.extra_skip.first if self.method.extra_skip else 1.0, self.spec.incoming(node)
                states[-1] = states[-1] + sum(first * self.skips[e](states[self.spec.edges[e][0]]) for e in edges)
        if self.space.family != "darts":
            return states[-1]
        return torch.cat(states[-(self.spec.outputs or len(self.spec.nodes)) :], 1)

    def of_edges(self, node):
        """Weights of the edges that end in a node."""
        edges = self.spec.incoming(node)
        if self.beta is None:
            return dict.fromkeys(edges, 1.0)
        total = sum(torch.exp(self.beta[e]) for e in edges)
        return {e: torch.exp(self.beta[e]) / total for e in edges}

    def edge(self, edge, states, mean, maps, weights, grid):
        """PC-DARTS's edge: operations on the first channels, the others as they are or pooled, shuffled."""
        mine = [key for key in maps if key[0] == edge]
        if self.method.mixing == "patch" and self.method.weights == "attention":
            mixed = sum(self.spread([w[key] for w in weights], grid, maps[key]) * maps[key] for key in mine)
        else:
            mixed = sum(mean[key][:, None, None, None] * maps[key] for key in mine)
        source, narrow = states[self.spec.edges[edge][0]], self.channels // self.parts
        rest = source[:, narrow:]
        if rest.shape[2] > mixed.shape[2] and self.parts > 1:
            rest = F.max_pool2d(rest, 2)
        whole = [*mixed.unbind(1), *rest.unbind(1)] if self.parts > 1 else mixed.unbind(1)
        return torch.stack([whole[j * narrow + i] for i in range(narrow) for j in range(self.parts)], 1)

    def attend(self, node, states, maps, grid):
        sources = [states[self.spec.edges[edge][0]] for edge in self.spec.incoming(node)]
        if self.method.detach:
            sources, maps = [x.detach() for x in sources], {key: x.detach() for key, x in maps.items()}
        name, projections = str(node), self.key[str(node)]
        of = {key: projections[self.space.operations.index(key[1]) if len(projections) > 1 else 0] for key in maps}
        if self.method.projected == "maps":
            side = next(iter(maps.values())).shape[2]
            sources = [F.adaptive_avg_pool2d(x, side) for x in sources]
            query = patches(self.activate(pixels(torch.cat(sources, 1), self.query[name]), (0, 2, 3)), grid)
            keys = {key: patches(self.activate(pixels(x, of[key]), (0, 2, 3)), grid) for key, x in maps.items()}
        else:
            pooled = [patches(x, grid) for x in sources]
            query = [F.linear(torch.cat([p[r] for p in pooled], 1), self.query[name]) for r in range(len(pooled[0]))]
            keys = {key: [F.linear(p, of[key]) for p in patches(x, grid)] for key, x in maps.items()}
            query, keys = self.rows(query), {key: self.rows(value) for key, value in keys.items()}
        scale = self.method.scale or self.channels**-0.5
        scale = self.log_scale[name].exp() if name in self.log_scale else scale
        weights = []
        for r in range(grid[0] * grid[1]):
            q = self.unit(query[r])
            weights.append(
                distribute({key: scale * (q * self.unit(keys[key][r])).sum(1) for key in maps}, self.distribution)
            )
        return weights

    def rows(self, x):
        """Projected means of all patches [B, C], after the activation."""
        return list(self.activate(torch.stack(x), (0, 1)))

    def activate(self, x, dims):
        if self.method.activation == "norm_relu":
            x = x - x.mean(dims, keepdim=True)
            x = x / ((x**2).mean(dims, keepdim=True) + 1e-5).sqrt()
        return x if self.method.activation == "none" else x.clamp(min=0)

    def unit(self, x):
        """Queries or keys [B, C] as their product takes them."""
        if self.method.normalise == "length":
            return x / (x**2).sum(1, keepdim=True).clamp(min=1e-12).sqrt()  # no shorter than 1e-6
        if self.method.normalise == "layer_norm":
            x = x - x.mean(1, keepdim=True)
            return x / ((x**2).mean(1, keepdim=True) + 1e-5).sqrt()
        return x

    @staticmethod
    def spread(values, grid, like):
        """One weight per patch over its pixels: [B, 1, H, W]."""
        image = torch.stack(values, 1).view(-1, 1, *grid)
        return F.interpolate(image, size=like.shape[2:], mode="nearest")


class PlainSupernet(nn.Module):
    def __init__(self, space, method, distribution, channels, cells, classes):
        super().__init__()
        self.alphas = nn.ParameterDict(
            {
                kind: nn.Parameter(torch.zeros(len(spec.edges), len(space.operations)))
                for kind, spec in space.cells.items()
            }
        )

        weighs = method.partial and method.partial.edges
        self.betas = nn.ParameterDict()

        def beta(kind):
            """Of a kind of cell, of each cell where the source of weights is each cell's."""
            if not weighs:
                return None
            name = kind if method.weights == "static" else str(len(self.betas))
            if name not in self.betas:
                self.betas[name] = nn.Parameter(torch.zeros(len(space.cells[kind].edges)))
            return self.betas[name]

        def make_cell(kind, channels_in, width, reduction_prev):
            preprocess = [nn.Identity() for _ in channels_in]
            if space.family == "darts":
                older = FactorizedReduce if reduction_prev else ReLUConvBN
                preprocess = [older(channels_in[0], width, norm=norm), ReLUConvBN(channels_in[1], width, norm=norm)]
            learned = self.alphas[kind], beta(kind)
            return PlainCell(space.cells[kind], space, method, distribution, preprocess, width, *learned)

        self.skeleton = SKELETONS[space.family](make_cell, channels, cells, classes, norm=network_norm, space=space)
        self.cells = [m for m in self.skeleton.cells if isinstance(m, PlainCell)]
        use_own_gradients(self, fast=False)

    def forward(self, x):
        return self.skeleton(x)
