"""The merged supernet beside the plain one, which is its oracle: both with equal parameters, compared in float64."""

import torch
import torch.nn.functional as F
from plain_supernet import PlainSupernet

from midas.config.method import Method
from midas.methods.composition import distribution_of, supernet_of

OPTIONS = {
    "static": {"weights": "static"},
    "static, pairs": {"weights": "static", "distribution": "pairs"},
    "static, with none": {"weights": "static", "offer_none": True},
    "static, pairs, with none": {"weights": "static", "distribution": "pairs", "offer_none": True},
    "attention, with none": {"patch_size": 4, "offer_none": True},
    "attention": {"patch_size": 4},
    "no patch": {"patch_size": None},
    "edge": {"patch_size": 4, "distribution": "edge"},
    "node": {"patch_size": 4, "distribution": "node"},
    "pairs": {"patch_size": 2, "distribution": "pairs"},
    "per-operation keys": {"patch_size": 4, "keys": "per_operation"},
    "patch mixing": {"patch_size": 4, "mixing": "patch"},
    "scale": {"patch_size": 4, "scale": 1.5},
    "length": {"patch_size": 4, "normalise": "length", "scale": 4.0},
    "length, no patch": {"patch_size": None, "normalise": "length", "scale": 4.0},
    "layer norm": {"patch_size": 4, "normalise": "layer_norm"},
    "learned scale": {"patch_size": 4, "normalise": "length", "learn_scale": True, "scale": 3.0},
    "learned scale alone": {"patch_size": 4, "learn_scale": True},
    "length, per-operation keys": {"patch_size": 4, "normalise": "length", "keys": "per_operation"},
    "length, detached": {"patch_size": 4, "normalise": "length", "detach": True},
    "relu of means": {"patch_size": 4, "activation": "relu"},
    "relu of means, length": {"patch_size": 4, "activation": "relu", "normalise": "length"},
    "relu of means, layer norm": {"patch_size": 4, "activation": "relu", "normalise": "layer_norm"},
    "norm and relu of means": {"patch_size": 4, "activation": "norm_relu"},
    "relu of maps": {"patch_size": 4, "activation": "relu", "projected": "maps"},
    "relu of maps, length": {
        "patch_size": 4,
        "activation": "relu",
        "projected": "maps",
        "normalise": "length",
        "scale": 8.0,
    },
    "norm and relu of maps": {
        "patch_size": 4,
        "activation": "norm_relu",
        "projected": "maps",
        "normalise": "layer_norm",
    },
    "relu of maps, detached": {"patch_size": 4, "activation": "relu", "projected": "maps", "detach": True},
    "relu of maps, per-operation keys": {
        "patch_size": 4,
        "activation": "relu",
        "projected": "maps",
        "keys": "per_operation",
    },
    "relu of maps, patch mixing": {"patch_size": 4, "activation": "relu", "projected": "maps", "mixing": "patch"},
    "partial": {"weights": "static", "partial": {"channels": 4, "edges": False}},
    "partial, edges": {"weights": "static", "partial": {"channels": 2}, "offer_none": True},
    "edges alone": {"weights": "static", "partial": {"channels": 1}},
    "partial attention": {"patch_size": 4, "distribution": "edge", "partial": {"channels": 2}},
    "attention, edges alone": {"patch_size": 4, "distribution": "edge", "partial": {"channels": 1}},
    "partial attention, patch mixing, per-operation keys": {
        **{"patch_size": 4, "distribution": "edge", "mixing": "patch", "normalise": "length", "keys": "per_operation"},
        "partial": {"channels": 2},
    },
    "partial attention, relu of maps": {
        **{"patch_size": 4, "distribution": "edge", "activation": "relu", "projected": "maps"},
        "partial": {"channels": 2},
    },
    "detached": {"patch_size": 4, "detach": True},
    "detached, patch mixing": {"patch_size": 4, "mixing": "patch", "detach": True},
}


def pair(space, method, channels=4, cells=None, classes=5, **way):
    """The merged and the plain supernet with the same weights, in float64."""
    cells = cells or space.max_cells or (1 if space.family == "nas_bench_201" else 4)
    merged = supernet_of(space, method, channels, cells, classes, **way).double()
    plain = PlainSupernet(merged.space, method, distribution_of(method, space), channels, cells, classes).double()
    links = list(linked(merged, plain, channels))
    assert {id(p) for p, _ in links} == {id(p) for p in plain.parameters() if p.numel() and used(p, plain, method)}
    with torch.no_grad():
        for theirs, mine in links:
            theirs.copy_(mine())
    return merged, plain, links


def used(parameter, plain, method):
    return method.weights == "static" or all(parameter is not alpha for alpha in plain.alphas.values())


def linked(merged, plain, channels):
    """(plain parameter, function that reads the same values, or gradients, off the merged one)."""
    mine = dict(merged.skeleton.named_parameters())
    for name, parameter in plain.skeleton.named_parameters():
        own = (".operations.", ".skips.", ".query.", ".key.", ".log_scale.", ".alpha", ".beta")
        if not any(part in name for part in own):
            yield parameter, reader(mine[name])
    for cell, other in zip(merged.cells, plain.cells, strict=True):
        for edge, (source, _) in enumerate(cell.spec.edges):
            candidates = cell.candidates[source]
            for operation, module in other.operations[edge].items():
                if operation == "none":
                    continue
                branch = candidates.branches.index(
                    next(b for b in candidates.branches if b[0] == operation and edge in b[1])
                )
                edges = candidates.branches[branch][1]
                place = slice(edges.index(edge), edges.index(edge) + 1)
                for their, my in zip(module.parameters(), candidates.operations[branch].parameters(), strict=True):
                    yield their, reader(my, len(edges), place)
        if other.beta is not None:
            yield other.beta, reader(cell.mixing.edges.beta)
        for edge, module in enumerate(other.skips):
            if list(module.parameters()):
                yield from linked_skip(module, cell.candidates[cell.spec.edges[edge][0]], edge)
        for node in other.query:
            yield other.query[node], reader(cell.mixing.query[node])
            yield other.key[node], reader(cell.mixing.key[node])
        for node in other.log_scale:
            yield other.log_scale[node], scalar(cell.mixing.log_scale[node])
    if merged.mixing.shared:
        for kind, alpha in plain.alphas.items():
            cell = next(c for c, k in zip(merged.cells, merged.kinds, strict=True) if k == kind)
            yield alpha, reader(cell.mixing.alpha)


def linked_skip(module, candidates, edge):
    """An extra skip connection that reduces."""
    number, edges = next((i, edges) for i, edges in enumerate(candidates.skipped) if edge in edges)
    place = slice(edges.index(edge), edges.index(edge) + 1)
    for their, my in zip(module.parameters(), candidates.reductions[number].parameters(), strict=True):
        yield their, reader(my, len(edges), place)


def reader(parameter, edges=1, place=slice(0, 1)):
    def read(gradient=False):
        value = parameter.grad if gradient else parameter
        return value.unflatten(0, (edges, -1))[place].squeeze(0)

    return read


def scalar(parameter):
    return lambda gradient=False: parameter.grad if gradient else parameter


def still(x, stride, copies=1):
    """Noise without chance: each edge has the same."""
    return torch.cos(x.detach()[:, :, ::stride, ::stride]).repeat(1, copies, 1, 1)


def check_against_oracle(space, options, layout=torch.channels_last, **way):
    torch.manual_seed(0)
    merged, plain, links = pair(space, Method(**options), **way)
    merged.to(memory_format=layout)
    x, y = torch.randn(3, 3, 16, 16, dtype=torch.float64).contiguous(memory_format=layout), torch.tensor([0, 3, 4])
    outputs = [network(x) for network in (merged, plain)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    for output in outputs:
        F.cross_entropy(output, y).backward()
    for theirs, mine in links:
        expected = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(mine(gradient=True), expected, rtol=1e-10, atol=1e-10)
    p, _ = merged.mixture()
    for cell, other in enumerate(plain.cells):
        for weights in other.p:
            for (edge, name), value in weights.items():
                mine = p[:, cell, edge, merged.space.operations.index(name)].expand(3)
                torch.testing.assert_close(mine, value.detach(), rtol=1e-10, atol=1e-10)
