"""Keys that are projected one by one, since they are activated or normalised before their product: parts of `attention_kernels`.

The projections y of queries and keys, after a ReLU if so asked, become f (y - m): m is their mean over channels (layer norm) or
0, f 1 over their standard deviation (layer norm) or length, or 1. What is kept of them is as in cpu/projected.h.

Loops over candidates aren't unrolled: with a product for each, that would take the compiler minutes in the DARTS space.
"""

# kernels know no starred tuple, and only Triton's compiler knows the types of their arguments
# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from midas.supernet.gpu.input_kernels import inputs_backward, project_inputs
from midas.supernet.gpu.tiles import add_product, chosen, outer
from midas.supernet.sums import EPSILON

SHORTEST = tl.constexpr(1e-6)  # as in methods/projections.py
ADDED = tl.constexpr(EPSILON)


@triton.jit
def _activated(y, RELU: tl.constexpr):
    if RELU:
        y = tl.where(y <= 0, 0, y)  # what is no number stays so
    return y


@triton.jit
def _centred(y, columns, C: tl.constexpr, NORMALISE: tl.constexpr):
    """Rows y - m [ROWS, COLUMNS]; columns beyond C stay 0."""
    if NORMALISE == "layer_norm":
        y = tl.where((columns < C)[None, :], y - (tl.sum(y, 1) / C)[:, None], 0)
    return y


@triton.jit
def _factor(y, C: tl.constexpr, NORMALISE: tl.constexpr):
    """F [ROWS] of rows y - m."""
    factor = tl.full((y.shape[0],), 1, y.dtype)
    if NORMALISE == "length":
        length = tl.sqrt(tl.sum(y * y, 1))
        # what is too short has exactly this factor, by which the gradient knows it
        factor = tl.where(length > SHORTEST, 1 / tl.maximum(length, SHORTEST), 1 / SHORTEST)
    if NORMALISE == "layer_norm":
        factor = 1 / tl.sqrt(tl.sum(y * y, 1) / C + ADDED)
    return factor


@triton.jit
def _backward(gradient, unit, y, factor, columns, C: tl.constexpr, NORMALISE: tl.constexpr, RELU: tl.constexpr):
    """The gradient of W x from that of `unit`, which is f (y - m)."""
    if NORMALISE == "length":
        along = tl.where(factor < 1 / SHORTEST, tl.sum(unit * gradient, 1), 0)
        gradient = gradient - along[:, None] * unit
    if NORMALISE == "layer_norm":
        gradient = gradient - (tl.sum(unit * gradient, 1) / C)[:, None] * unit
    gradient = _centred(gradient * factor[:, None], columns, C, NORMALISE)
    if RELU:
        gradient = tl.where(y > 0, gradient, 0)
    return gradient


@triton.jit
def _project_key(
    candidates, images, rows, key, k, b, patch, columns,
    K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Candidate k's y of some patches [ROWS, COLUMNS]."""
    x, y = chosen(candidates, k, K) + b * chosen(images, k, K), tl.zeros((ROWS, COLUMNS), key.dtype.element_ty)
    y = add_product(y, x, chosen(rows, k, K), key, 1, C, patch, columns, R, C, CHUNK, PRECISION)
    return _activated(y, RELU)


@triton.jit
def one_by_one(
    inputs, input_images, input_rows, candidates, images, rows, query, key, slot, projected, factors,
    b, patch, columns, inside,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, PLACES: tl.constexpr, SCALE: tl.constexpr,
    NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the logits of some patches at their places, and what is kept of their projections."""
    y = project_inputs(
        inputs, input_images, input_rows, query, b, patch, columns, E, R, C, ROWS, COLUMNS, CHUNK, PRECISION
    )
    y = _activated(y, RELU)
    q = _centred(y, columns, C, NORMALISE)
    factor = _factor(q, C, NORMALISE)
    q *= (factor * SCALE)[:, None]
    at, of_factors = projected + patch[:, None] * 2 * C + columns[None, :], factors + (b * R + patch) * (1 + K)
    tl.store(at, q, mask=inside)
    tl.store(at + C, y, mask=inside)
    tl.store(of_factors, factor, mask=patch < R)
    for k in range(K):
        y = _project_key(
            candidates, images, rows, key, k, b, patch, columns, K, R, C, RELU, ROWS, COLUMNS, CHUNK, PRECISION
        )
        y = _centred(y, columns, C, NORMALISE)
        factor = _factor(y, C, NORMALISE)
        tl.store(of_factors + 1 + k, factor, mask=patch < R)
        tl.store(slot + chosen(PLACES, k, K), tl.sum(q * y, 1) * factor, mask=patch < R)
    tl.debug_barrier()


@triton.jit
def _to_keys(
    candidates, images, rows, key, for_logits, factors, q, of_keys, b, row, patch, columns, inside,
    K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, PLACES: tl.constexpr,
    NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the gradients of the candidates' W_K k, and returns that of the query in the end [ROWS, COLUMNS]."""
    of_q = tl.zeros((ROWS, COLUMNS), key.dtype.element_ty)
    for k in range(K):
        y = _project_key(
            candidates, images, rows, key, k, b, patch, columns, K, R, C, RELU, ROWS, COLUMNS, CHUNK, PRECISION
        )
        factor = tl.load(factors + 1 + k, mask=patch < R, other=0)
        slope = tl.load(for_logits + chosen(PLACES, k, K), mask=patch < R, other=0)[:, None]
        unit = _centred(y, columns, C, NORMALISE) * factor[:, None]
        of_q += slope * unit
        of_key = _backward(slope * q, unit, y, factor, columns, C, NORMALISE, RELU)
        tl.store(of_keys + (row * K + k)[:, None] * C + columns[None, :], of_key, mask=inside)
    tl.debug_barrier()
    return of_q


@triton.jit
def _to_candidates(
    key, p, for_means, of_keys, for_candidates, b, row, patch, columns, inside, step,
    K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, PLACES: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the candidates' gradients of some patches."""
    if for_means is not None:
        of_mean = tl.load(for_means + row[:, None] * C + columns[None, :], mask=inside, other=0)
    for k in range(K):
        found, of_key = tl.zeros((ROWS, COLUMNS), key.dtype.element_ty), of_keys + (b * R * K + k) * C
        if for_means is not None:
            found += tl.load(p + chosen(PLACES, k, K)) * of_mean
        found = add_product(found, of_key, K * C, key, C, 1, patch, columns, R, C, CHUNK, PRECISION)
        tl.store(for_candidates + k * step + row[:, None] * C + columns[None, :], found, mask=inside)


@triton.jit
def one_by_one_backward(
    candidates, images, rows, query, key, for_logits, p, projected, factors, for_means, for_projected, of_keys,
    for_inputs, for_candidates, b, row, patch, columns, inside, step,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr, P: tl.constexpr, PLACES: tl.constexpr,
    SCALE: tl.constexpr, NORMALISE: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the gradients of inputs and candidates of some patches, of W_Q x in `for_projected` and of W_K k in `of_keys`."""
    at, factors = row[:, None] * 2 * C + columns[None, :], factors + row * (1 + K)
    q, y = tl.load(projected + at, mask=inside, other=0), tl.load(projected + at + C, mask=inside, other=0)
    of_q = _to_keys(
        candidates, images, rows, key, for_logits + row * P, factors, q, of_keys, b, row, patch, columns, inside,
        K, R, C, PLACES, NORMALISE, RELU, ROWS, COLUMNS, CHUNK, PRECISION,
    )  # fmt: skip
    _to_candidates(
        key, p, for_means, of_keys, for_candidates, b, row, patch, columns, inside, step,
        K, R, C, PLACES, ROWS, COLUMNS, CHUNK, PRECISION,
    )  # fmt: skip
    factor = tl.load(factors, mask=patch < R, other=0)
    of_q = _backward(of_q * SCALE, q / SCALE, y, factor, columns, C, NORMALISE, RELU)
    tl.store(for_projected + at, of_q, mask=inside)
    of_queries = for_projected + b * R * 2 * C
    inputs_backward(
        query, of_queries, for_inputs, row, patch, columns, inside, step, E, R, C, ROWS, COLUMNS, CHUNK, PRECISION
    )


@triton.jit
def learn(
    inputs, input_images, input_rows, candidates, images, rows, for_projected, of_keys, for_query, for_keys, count,
    E: tl.constexpr, K: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient of the part of W_Q for an input, or of a candidate's part [C, C] of that of W_K."""
    which = tl.program_id(0)
    if which < E:
        x, image, row = chosen(inputs, which, E), chosen(input_images, which, E), chosen(input_rows, which, E)
        outer(for_projected, 2, x, image, row, for_query + which * C, E * C, count, R, C, ROWS, TILE, PRECISION)
    else:
        k = which - E
        x, image, row = chosen(candidates, k, K), chosen(images, k, K), chosen(rows, k, K)
        outer(of_keys + k * C, K, x, image, row, for_keys + k * C * C, C, count, R, C, ROWS, TILE, PRECISION)
