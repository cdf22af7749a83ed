"""The attention of a node for a CPU, compiled from kernels.cpp; `methods.attention` says it in torch."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from midas.supernet.cpu.kernels import addresses, call, of_rows, there
from midas.supernet.node import Attended, Node

NORMALISE = ("none", "length", "layer_norm")
"""What queries and keys are divided by, by the numbers that projected.h knows."""


def usable_rows(*tensors: Tensor) -> bool:
    """Whether `attend` can take these projections and means over patches."""
    dtype, wanted = tensors[0].dtype, (torch.float32, torch.float64)
    alike = all(x.dtype == dtype and x.device.type == "cpu" and x.stride(-1) == 1 for x in tensors)
    return alike and dtype in wanted and there()


def attend(node: Node) -> tuple[Attended, Tensor, Tensor]:
    """Softmax over each set of logits ``scale * q . k`` in each patch, averaged; `methods.attention` says it in torch.

    Returns:
        The weights; those of the candidates [B, K]; the means over patches [B, R, C] of the mixture that they make.
    """
    x = node.inputs[0]
    images, patches, channels = x.shape
    attended = Attended(
        x.new_empty((images, patches, node.places)),
        x.new_empty((images, node.places)),
        x.new_empty((images, patches, 2, channels)),
        None if node.plain else x.new_empty((images, patches, 1 + len(node.candidates))),
    )
    share, means = (
        x.new_empty((images, len(node.candidates))),
        torch.empty_like(x, memory_format=torch.contiguous_format),
    )
    _call_attention("attend", node, attended, share, means)
    return attended, share, means


def attend_backward(
    node: Node,
    attended: Attended,
    for_p: Tensor | None,
    for_share: Tensor | None,
    for_means: Tensor | None,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of inputs [E, B, R, C], candidates [K, B, R, C] and, to `learn` them, of W_Q and W_K."""
    x = node.inputs[0]
    for_inputs, for_candidates = (x.new_empty((len(maps), *x.shape)) for maps in (node.inputs, node.candidates))
    for_query, for_key = (torch.empty_like(w) if learn else None for w in (node.query, node.key))
    given = [None if g is None else g.contiguous() for g in (for_p, for_share, for_means)]
    _call_attention("attend_backward", node, attended, *given, for_inputs, for_candidates, for_query, for_key)
    return for_inputs, for_candidates, for_query, for_key


def _call_attention(name: str, node: Node, attended: Attended, *tensors: Tensor | None) -> None:
    x = node.inputs[0]
    images, patches, channels = x.shape
    *kept, factors = attended
    how = [NORMALISE.index(node.normalise), int(node.relu)]
    numbers = [*_numbers(node), *addresses(*kept), *how, *addresses(factors, *tensors)]
    call(name, x.dtype, (images, channels, patches, 1), None, numbers)


def _numbers(node: Node) -> list[int]:
    """A node as kernels.cpp takes it."""
    rows = [[len(maps), *(n for x in maps for n in of_rows(x))] for maps in (node.inputs, node.candidates)]
    entries = [len(node.entries), *(n for entry in node.entries for n in entry)]
    (scale,) = struct.unpack("q", struct.pack("d", node.scale))
    return [*rows[0], *rows[1], *entries, *addresses(node.query, node.key), scale, node.places]
