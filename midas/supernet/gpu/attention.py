"""The attention of `cpu.attention` for a GPU: the same functions as Triton kernels, and the same for weights of pairs of edges.

Launches: `attend` 1; `attend_backward` 1, and to learn W_Q and W_K 1 more, or 2 where keys are projected one by one. A program
does the work of an image, of which it keeps as many patches as fit in registers at a time; it reads each candidate twice going
forward and twice coming back (once without a gradient of the means). What its threads tell each other lies in the outputs,
between barriers. Sums are in the type of the rows.

Kernels are compiled for each node's entries and number of patches and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from midas.supernet.gpu import attention_kernels, projected_kernels
from midas.supernet.node import Attended, Node


def usable_rows(*tensors: Tensor) -> bool:
    """Whether these functions can take these projections and means over patches."""
    dtype, device = tensors[0].dtype, "cuda" if isinstance(attention_kernels.forward, triton.JITFunction) else "cpu"
    alike = all(x.dtype == dtype and x.device.type == device and x.stride(-1) == 1 for x in tensors)
    return alike and dtype in (torch.float32, torch.float64)


def attend(node: Node) -> tuple[Attended, Tensor, Tensor]:
    """See `cpu.attention.attend`."""
    attended, share, means, _, _ = _attend(node, pairs=False)
    return attended, share, means


def attend_pairs(node: Node) -> tuple[Attended, Tensor, Tensor, Tensor, Tensor]:
    """The same with `distributions.pair_softmax` of the sets, each of an edge's operations.

    Returns:
        What `attend` does; pi [B, E (E - 1) / 2], averaged over patches; and "each", that of each patch [B, R, E, E], symmetric,
        for the gradients.
    """
    attended, share, means, pi, each = _attend(node, pairs=True)
    assert pi is not None
    assert each is not None
    return attended, share, means, pi, each


def _attend(node: Node, pairs: bool) -> tuple[Attended, Tensor, Tensor, Tensor | None, Tensor | None]:
    x, sets = node.inputs[0], _set_count(node)
    images, patches, channels = x.shape
    attended = Attended(
        x.new_empty((images, patches, node.places)),
        x.new_empty((images, node.places)),
        x.new_empty((images, patches, 2, channels)),
        None if node.plain else x.new_empty((images, patches, 1 + len(node.candidates))),
    )
    share, means = x.new_empty((images, len(node.candidates))), x.new_empty(x.shape)
    pi = x.new_empty((images, sets * (sets - 1) // 2)) if pairs else None
    each = x.new_empty((images, patches, sets, sets)) if pairs else None
    attention_kernels.forward[(images,)](
        *_rows(node.inputs), *_rows(node.candidates), node.query, node.key, *attended, share, means, pi, each, **_options(node)
    )  # fmt: skip
    return attended, share, means, pi, each


def attend_backward(
    node: Node,
    attended: Attended,
    for_p: Tensor | None,
    for_share: Tensor | None,
    for_means: Tensor | None,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """See `cpu.attention.attend_backward`."""
    return _attend_backward(node, attended, None, (for_p, for_share, for_means), learn)


def attend_pairs_backward(
    node: Node,
    attended: Attended,
    each: Tensor,
    for_p: Tensor | None,
    for_share: Tensor | None,
    for_means: Tensor | None,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The same for `attend_pairs`; pi has no gradient."""
    return _attend_backward(node, attended, each, (for_p, for_share, for_means), learn)


def _attend_backward(
    node: Node, attended: Attended, each: Tensor | None, given: Sequence[Tensor | None], learn: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    x = node.inputs[0]
    given = [None if g is None else g.contiguous() for g in given]
    for_inputs, for_candidates = (x.new_empty((len(maps), *x.shape)) for maps in (node.inputs, node.candidates))
    for_logits, for_projected = (torch.empty_like(kept) for kept in (attended.weights, attended.projected))
    of_keys = None if node.plain else x.new_empty((*x.shape[:2], len(node.candidates), x.shape[2]))
    outputs, options = (for_logits, for_projected, of_keys, for_inputs, for_candidates), _options(node)
    attention_kernels.backward[(len(x),)](
        *_rows(node.candidates), node.query, node.key, *attended, each, *given, *outputs, **options
    )  # fmt: skip
    learned = _learn(node, attended.projected, for_projected, of_keys) if learn else (None, None)
    return for_inputs, for_candidates, *learned


def _learn(node: Node, projected: Tensor, for_projected: Tensor, of_keys: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradients of W_Q and W_K from those of the projections, and of the keys' where they are projected one by one."""
    images, patches, channels = node.inputs[0].shape
    edges, count, tiles = len(node.inputs), len(node.candidates), triton.cdiv(channels, 16)
    sizes = {"E": edges, "R": patches, "C": channels, "ROWS": 64, "TILE": 16, "PRECISION": PRECISION}
    for_query = torch.empty_like(node.query)
    if of_keys is None:
        for_key = torch.empty_like(node.key)
        attention_kernels.learn[(edges + 1, tiles, tiles)](
            *_rows(node.inputs), projected, for_projected, for_query, for_key, images * patches, **sizes
        )
        return for_query, for_key
    for_keys = node.key.new_empty((count, channels, channels))  # a candidate's part each: more programs at once
    projected_kernels.learn[(edges + count, tiles, tiles)](
        *_rows(node.inputs), *_rows(node.candidates), for_projected, of_keys, for_query, for_keys, images * patches,
        K=count, **sizes,
    )  # fmt: skip
    return for_query, for_keys.sum(0, keepdim=True)


PRECISION = "tf32x3"
"""Of products of float32: three of tensor cores each, whose sum is as good as one of float32."""


def _set_count(node: Node) -> int:
    return len({number for _, number, _ in node.entries})


def _rows(maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int, ...], tuple[int, ...]]:
    """Maps [B, R, C], and the steps from an image and a patch to the next of each."""
    return tuple(maps), tuple(x.stride(0) for x in maps), tuple(x.stride(1) for x in maps)


def _options(node: Node) -> dict[str, Any]:
    """What the two kernels are compiled for."""
    _, patches, channels = node.inputs[0].shape
    columns = max(16, triton.next_power_of_2(channels))
    rows = max(16, min(triton.next_power_of_2(patches), 2048 // columns))  # 16 is the least of a product
    numbers = {number: n for n, number in enumerate(dict.fromkeys(number for _, number, _ in node.entries))}
    owners = {place: candidate for place, _, candidate in node.entries}
    places = {candidate: place for place, candidate in owners.items()}
    sets = {place: numbers[number] for place, number, _ in node.entries}
    return {
        "E": len(node.inputs),
        "K": len(node.candidates),
        "R": patches,
        "C": channels,
        "PLACES": tuple(places[k] for k in range(len(node.candidates))),
        "OWNERS": tuple(owners.get(place, -1) for place in range(node.places)),
        "SETS": tuple(sets.get(place, -1) for place in range(node.places)),
        "COUNT": len(numbers),
        "SCALE": node.scale,
        "NORMALISE": node.normalise,
        "RELU": node.relu,
        "ROWS": rows,
        "COLUMNS": columns,
        "CHUNK": columns if columns <= 64 else 32,
        "AHEAD": 8 if rows * columns <= 1024 else 4,
        "EDGES": max(2, triton.next_power_of_2(len(numbers))),
        "BLOCK": max(2, triton.next_power_of_2(node.places)),
        "PRECISION": PRECISION,
        "num_warps": 8 if rows * columns >= 1024 else 4,
    }
