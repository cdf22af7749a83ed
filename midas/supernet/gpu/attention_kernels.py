"""The Triton kernels of `gpu.attention`.

A program does the work of an image, of which it keeps as many patches as fit in registers at a time. What its threads tell each
other lies in the outputs, between barriers. What a kernel is compiled for is in capitals.
"""

# kernels know no starred tuple, and only Triton's compiler knows the types of their arguments
# ruff: noqa: N803, N806
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from midas.supernet.gpu.input_kernels import inputs_backward, project_inputs
from midas.supernet.gpu.projected_kernels import one_by_one, one_by_one_backward
from midas.supernet.gpu.softmax_kernels import in_pairs, slopes_in_pairs, slopes_in_sets, softmax
from midas.supernet.gpu.tiles import add_product, load_places, load_tiles, outer, table_of


@triton.jit
def _products(
    x, slot, candidates, images, rows, b, patch, columns, inside,
    PLACES: tl.constexpr, K: tl.constexpr, R: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Leaves at its place the product of rows `x` [ROWS, COLUMNS] with each candidate's; `AHEAD` are asked for at once."""
    for start in tl.static_range(0, K, AHEAD):
        tiles = load_tiles(candidates, images, rows, b, patch, columns, inside, start, min(start + AHEAD, K))
        for k in tl.static_range(start, min(start + AHEAD, K)):
            tl.store(slot + PLACES[k], tl.sum(x * tiles[k - start], 1), mask=patch < R)
    tl.debug_barrier()


@triton.jit
def _project(
    inputs, input_images, input_rows, query, key, projected, b, patch, columns, inside,
    E: tl.constexpr, R: tl.constexpr, C: tl.constexpr, SCALE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Q and W_K^T q of some patches, the second returned: q . (W_K k) = (W_K^T q) . k."""
    q = project_inputs(
        inputs, input_images, input_rows, query, b, patch, columns, E, R, C, ROWS, COLUMNS, CHUNK, PRECISION
    )
    at = projected + patch[:, None] * 2 * C + columns[None, :]
    tl.store(at, q * SCALE, mask=inside)
    tl.debug_barrier()
    back = tl.zeros((ROWS, COLUMNS), query.dtype.element_ty)
    back = add_product(back, projected, 2 * C, key, C, 1, patch, columns, R, C, CHUNK, PRECISION)
    tl.store(at + C, back, mask=inside)
    return back


@triton.jit
def _logits(
    inputs, input_images, input_rows, candidates, images, rows, query, key, slot, projected, factors, b, patch, columns, inside,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, PLACES: tl.constexpr, SCALE: tl.constexpr,
    NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves at their places the logits of some patches; without `factors` those of a plain node."""
    if factors is None:
        back = _project(
            inputs, input_images, input_rows, query, key, projected, b, patch, columns, inside,
            E, R, C, SCALE, ROWS, COLUMNS, CHUNK, PRECISION,
        )  # fmt: skip
        _products(back, slot, candidates, images, rows, b, patch, columns, inside, PLACES, K, R, AHEAD)
    else:
        one_by_one(
            inputs, input_images, input_rows, candidates, images, rows, query, key, slot, projected, factors,
            b, patch, columns, inside, E, K, R, C, PLACES, SCALE, NORMALISE, RELU, ROWS, COLUMNS, CHUNK, PRECISION,
        )  # fmt: skip


@triton.jit
def _mix(
    means, p, candidates, images, rows, b, columns,
    PLACES: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The means over patches of the mixture that an image's weights make."""
    for first in range(0, R, ROWS):
        patch = first + tl.arange(0, ROWS)
        inside = (patch < R)[:, None] & (columns < C)[None, :]
        mixed = tl.zeros((ROWS, COLUMNS), means.dtype.element_ty)
        for k in tl.static_range(K):
            (tile,) = load_tiles(candidates, images, rows, b, patch, columns, inside, k, k + 1)
            mixed += tl.load(p + PLACES[k]) * tile
        tl.store(means + (b * R + patch)[:, None] * C + columns[None, :], mixed, mask=inside)


@triton.jit
def forward(
    inputs, input_images, input_rows, candidates, images, rows, query, key, all_weights, all_p, projected, factors,
    share, means, pi, all_pairs,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    PLACES: tl.constexpr, OWNERS: tl.constexpr, SETS: tl.constexpr, COUNT: tl.constexpr, SCALE: tl.constexpr,
    NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr, BLOCK: tl.constexpr,
    EDGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`_attend` of an image."""
    P: tl.constexpr = len(SETS)
    b = tl.program_id(0)
    dtype = query.dtype.element_ty
    columns, places, edges = tl.arange(0, COLUMNS), tl.arange(0, BLOCK), tl.arange(0, EDGES)
    sets, owners = table_of(SETS, BLOCK), table_of(OWNERS, BLOCK)
    both = (edges[:, None] * COUNT + edges[None, :])[None, :, :]
    real = ((edges < COUNT)[:, None] & (edges < COUNT)[None, :])[None, :, :]
    p, mean_pairs = tl.zeros((BLOCK,), dtype), tl.zeros((EDGES, EDGES), dtype)
    projected += b * R * 2 * C
    for first in range(0, R, ROWS):
        patch = first + tl.arange(0, ROWS)
        valid = (patch < R)[:, None]
        inside = valid & (columns < C)[None, :]
        slot = all_weights + (b * R + patch) * P
        _logits(
            inputs, input_images, input_rows, candidates, images, rows, query, key, slot, projected, factors,
            b, patch, columns, inside, E, K, R, C, PLACES, SCALE, NORMALISE, RELU, ROWS, COLUMNS, CHUNK, AHEAD, PRECISION,
        )  # fmt: skip
        slots = slot[:, None] + places[None, :]
        logits = tl.load(slots, mask=valid & (owners >= 0)[None, :], other=0)
        tl.debug_barrier()  # before they are written over
        weights, log_sums = softmax(logits, sets, COUNT, EDGES)
        if all_pairs is not None:
            weights, pairs = in_pairs(weights, log_sums, sets, COUNT, EDGES)
            there = all_pairs + (b * R + patch)[:, None, None] * COUNT * COUNT + both
            tl.store(there, pairs, mask=valid[:, :, None] & real)
            mean_pairs += tl.sum(tl.where(valid[:, :, None], pairs, 0), 0)
        tl.store(slots, weights, mask=valid & (places < P)[None, :])
        p += tl.sum(tl.where(valid, weights, 0), 0)
    p /= R
    tl.store(all_p + b * P + places, p, mask=places < P)
    tl.store(share + b * K + owners, p, mask=owners >= 0)
    if pi is not None:
        one, other = edges[:, None], edges[None, :]
        at = b * (COUNT * (COUNT - 1) // 2) + one * (2 * COUNT - one - 1) // 2 + other - one - 1
        tl.store(pi + at, mean_pairs / R, mask=(one < other) & (other < COUNT))
    tl.debug_barrier()
    _mix(means, all_p + b * P, candidates, images, rows, b, columns, PLACES, K, R, C, ROWS, COLUMNS)


@triton.jit
def _for_weights(
    for_p, for_share, for_means, for_logits, candidates, images, rows, b, columns, sets, owners,
    K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, P: tl.constexpr, PLACES: tl.constexpr,
    ROWS: tl.constexpr, AHEAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient [BLOCK] of an image's weights, from all that they are used for; `for_logits` is scratch."""
    places, mapped = tl.arange(0, BLOCK), owners >= 0
    of_p = tl.zeros((BLOCK,), for_logits.dtype.element_ty)
    if for_p is not None:
        of_p += tl.load(for_p + b * P + places, mask=sets >= 0, other=0)
    if for_share is not None:
        of_p += tl.load(for_share + b * K + owners, mask=mapped, other=0)
    if for_means is not None:
        for first in range(0, R, ROWS):
            patch = first + tl.arange(0, ROWS)
            inside = (patch < R)[:, None] & (columns < C)[None, :]
            slot = for_logits + (b * R + patch) * P
            of_mean = tl.load(for_means + (b * R + patch)[:, None] * C + columns[None, :], mask=inside, other=0)
            _products(of_mean, slot, candidates, images, rows, b, patch, columns, inside, PLACES, K, R, AHEAD)
            products = tl.load(slot[:, None] + places[None, :], mask=(patch < R)[:, None] & mapped[None, :], other=0)
            of_p += tl.sum(products, 0)
        tl.debug_barrier()
    return of_p


@triton.jit
def _to_candidates(
    candidates, images, rows, for_logits, p, for_means, for_candidates, back, of_back, b, row, patch, columns, inside, step,
    PLACES: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, P: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Leaves the candidates' gradients of some patches, and adds that of W_K^T q to `of_back` [ROWS, COLUMNS]."""
    if for_means is not None:
        of_mean = tl.load(for_means + row[:, None] * C + columns[None, :], mask=inside, other=0)
    for start in tl.static_range(0, K, AHEAD):
        tiles = load_tiles(candidates, images, rows, b, patch, columns, inside, start, min(start + AHEAD, K))
        slopes_of = load_places(for_logits + row * P, PLACES, start, min(start + AHEAD, K), patch < R)
        shares = load_places(p, PLACES, start, min(start + AHEAD, K))
        for k in tl.static_range(start, min(start + AHEAD, K)):
            slope = slopes_of[k - start][:, None]
            of_back += slope * tiles[k - start]
            found = slope * back
            if for_means is not None:
                found += shares[k - start] * of_mean
            tl.store(for_candidates + k * step + row[:, None] * C + columns[None, :], found, mask=inside)
    return of_back


@triton.jit
def _to_inputs(
    query, key, for_projected, for_inputs, b, row, patch, columns, inside, step,
    E: tl.constexpr, R: tl.constexpr, C: tl.constexpr, SCALE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the gradients of q, from that of W_K^T q, and of the inputs, of some patches."""
    of_q, x = tl.zeros((ROWS, COLUMNS), query.dtype.element_ty), for_projected + b * R * 2 * C
    of_q = add_product(of_q, x + C, 2 * C, key, 1, C, patch, columns, R, C, CHUNK, PRECISION)
    tl.store(for_projected + row[:, None] * 2 * C + columns[None, :], of_q * SCALE, mask=inside)
    inputs_backward(query, x, for_inputs, row, patch, columns, inside, step, E, R, C, ROWS, COLUMNS, CHUNK, PRECISION)


@triton.jit
def _logits_backward(
    candidates, images, rows, query, key, for_logits, all_p, projected, factors, for_means, for_projected, of_keys,
    for_inputs, for_candidates, b, row, patch, columns, inside, step,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, P: tl.constexpr, PLACES: tl.constexpr,
    SCALE: tl.constexpr, NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the gradients of inputs, candidates and projections of some patches from those of their logits."""
    if factors is None:
        at = row[:, None] * 2 * C + columns[None, :]
        back = tl.load(projected + at + C, mask=inside, other=0)
        of_back = _to_candidates(
            candidates, images, rows, for_logits, all_p + b * P, for_means, for_candidates,
            back, tl.zeros((ROWS, COLUMNS), query.dtype.element_ty), b, row, patch, columns, inside, step,
            PLACES, K, R, C, P, AHEAD,
        )  # fmt: skip
        tl.store(for_projected + at + C, of_back, mask=inside)
        tl.debug_barrier()
        _to_inputs(
            query, key, for_projected, for_inputs, b, row, patch, columns, inside, step,
            E, R, C, SCALE, ROWS, COLUMNS, CHUNK, PRECISION,
        )  # fmt: skip
    else:
        one_by_one_backward(
            candidates, images, rows, query, key, for_logits, all_p + b * P, projected, factors, for_means, for_projected,
            of_keys, for_inputs, for_candidates, b, row, patch, columns, inside, step,
            E, K, R, C, P, PLACES, SCALE, NORMALISE, RELU, ROWS, COLUMNS, CHUNK, PRECISION,
        )  # fmt: skip


@triton.jit
def backward(
    candidates, images, rows, query, key, all_weights, all_p, projected, factors, all_pairs, for_p, for_share, for_means,
    for_logits, for_projected, of_keys, for_inputs, for_candidates,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    PLACES: tl.constexpr, OWNERS: tl.constexpr, SETS: tl.constexpr, COUNT: tl.constexpr, SCALE: tl.constexpr,
    NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr, BLOCK: tl.constexpr,
    EDGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`_attend_backward` of an image, but for the weights' gradients."""
    P: tl.constexpr = len(SETS)
    b = tl.program_id(0)
    step = tl.num_programs(0) * R * C  # from an input or candidate to the next
    columns, places, edges = tl.arange(0, COLUMNS), tl.arange(0, BLOCK), tl.arange(0, EDGES)
    sets, owners = table_of(SETS, BLOCK), table_of(OWNERS, BLOCK)
    both = (edges[:, None] * COUNT + edges[None, :])[None, :, :]
    real = ((edges < COUNT)[:, None] & (edges < COUNT)[None, :])[None, :, :]
    offered = sets >= 0
    of_p = _for_weights(
        for_p, for_share, for_means, for_logits, candidates, images, rows, b, columns, sets, owners,
        K, R, C, P, PLACES, ROWS, AHEAD, BLOCK,
    )  # fmt: skip
    for first in range(0, R, ROWS):
        patch = first + tl.arange(0, ROWS)
        valid = (patch < R)[:, None]
        inside = valid & (columns < C)[None, :]
        row = b * R + patch
        slots = row[:, None] * P + places[None, :]
        weights = tl.load(all_weights + slots, mask=valid & offered[None, :], other=0)
        if all_pairs is None:
            slopes = slopes_in_sets(weights, of_p, sets, COUNT)
        else:
            there = all_pairs + row[:, None, None] * COUNT * COUNT + both
            pairs = tl.load(there, mask=valid[:, :, None] & real, other=0)
            slopes = slopes_in_pairs(weights, pairs, of_p, sets, COUNT, EDGES)
        tl.store(for_logits + slots, slopes / R, mask=valid & offered[None, :])
        tl.debug_barrier()
        _logits_backward(
            candidates, images, rows, query, key, for_logits, all_p, projected, factors, for_means, for_projected,
            of_keys, for_inputs, for_candidates, b, row, patch, columns, inside, step,
            E, K, R, C, P, PLACES, SCALE, NORMALISE, RELU, ROWS, COLUMNS, CHUNK, AHEAD, PRECISION,
        )  # fmt: skip


@triton.jit
def learn(
    inputs, images, rows, projected, for_projected, for_query, for_key, count,
    E: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient of the part of W_Q for an input, or of W_K."""
    which = tl.program_id(0)
    for e in tl.static_range(E):
        if which == e:
            out = for_query + e * C
            outer(for_projected, 2, inputs[e], images[e], rows[e], out, E * C, count, R, C, ROWS, TILE, PRECISION)
    if which == E:
        of_back = for_projected + C
        outer(projected, 2, of_back, R * 2 * C, 2 * C, for_key, C, count, R, C, ROWS, TILE, PRECISION)
