"""The projection W_Q x of a node's inputs, and the inputs' gradients from its: Triton functions of `attention_kernels`."""

# kernels know no starred tuple, and only Triton's compiler knows the types of their arguments
# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from midas.supernet.gpu.tiles import add_product


@triton.jit
def project_inputs(
    inputs, images, rows, query, b, patch, columns,
    E: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """W_Q x of some patches [ROWS, COLUMNS]."""
    q = tl.zeros((ROWS, COLUMNS), query.dtype.element_ty)
    for e in tl.static_range(E):
        x = inputs[e] + b * images[e]
        q = add_product(q, x, rows[e], query + e * C, 1, E * C, patch, columns, R, C, CHUNK, PRECISION)
    return q


@triton.jit
def inputs_backward(
    query, of_queries, for_inputs, row, patch, columns, inside, step,
    E: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Leaves the gradients of the inputs of some patches from those of W_Q x [R, 2, C], which threads have just left."""
    tl.debug_barrier()
    for e in tl.static_range(E):
        found = tl.zeros((ROWS, COLUMNS), query.dtype.element_ty)
        found = add_product(found, of_queries, 2 * C, query + e * C, E * C, 1, patch, columns, R, C, CHUNK, PRECISION)
        tl.store(for_inputs + e * step + row[:, None] * C + columns[None, :], found, mask=inside)
