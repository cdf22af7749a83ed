"""What the attention's kernels share, tile by tile: maps over patches, products with a weight and of maps, numbers at places."""

# kernels know no starred tuple, and only Triton's compiler knows the types of their arguments
# ruff: noqa: N803, RUF005
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_tiles(maps, images, rows, b, patch, columns, inside, FIRST: tl.constexpr, END: tl.constexpr):
    """Some maps' patches [ROWS, COLUMNS] each, asked for before the first is needed: a store would hold back later loads."""
    tiles = ()
    for k in tl.static_range(FIRST, END):
        at = maps[k] + b * images[k] + patch[:, None] * rows[k] + columns[None, :]
        tiles = tiles + (tl.load(at, mask=inside, other=0),)  # type: ignore[assignment]
    return tiles


@triton.jit
def add_product(
    total, x, step, weight, down, across, patch, columns, R, C, CHUNK: tl.constexpr, PRECISION: tl.constexpr
):
    """Adds the product of rows `x` with a weight [C, C] that has these steps to `total` [ROWS, COLUMNS]."""
    for first in tl.static_range(0, C, CHUNK):
        inner = first + tl.arange(0, CHUNK)
        at = x + patch[:, None] * step + inner[None, :]
        left = tl.load(at, mask=(patch < R)[:, None] & (inner < C)[None, :], other=0)
        at = weight + inner[:, None] * down + columns[None, :] * across
        right = tl.load(at, mask=(inner < C)[:, None] & (columns < C)[None, :], other=0)
        total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=total.dtype)
    return total


@triton.jit
def outer(
    x, SLOTS: tl.constexpr, y, y_image, y_row, out, out_step, count,
    R: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of the sum over rows of the products of each channel of x [B, R, SLOTS, C] with each of y [B, R, C]."""
    down, across = tl.program_id(1) * TILE + tl.arange(0, TILE), tl.program_id(2) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), out.dtype.element_ty)
    for first in range(0, count, ROWS):
        row = first + tl.arange(0, ROWS)
        valid = (row < count)[:, None]
        left = tl.load(x + row[:, None] * SLOTS * C + down[None, :], mask=valid & (down < C)[None, :], other=0)
        at = y + (row // R)[:, None] * y_image + (row % R)[:, None] * y_row + across[None, :]
        right = tl.load(at, mask=valid & (across < C)[None, :], other=0)
        total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION, out_dtype=total.dtype)
    at = out + down[:, None] * out_step + across[None, :]
    tl.store(at, total, mask=(down < C)[:, None] & (across < C)[None, :])


@triton.jit
def chosen(numbers, k, COUNT: tl.constexpr):
    """That of `COUNT` addresses or numbers at a place that is known only when the kernel runs."""
    found = numbers[0]
    for n in tl.static_range(1, COUNT):
        found = tl.where(k == n, numbers[n], found)
    return found


@triton.jit
def load_places(x, PLACES: tl.constexpr, FIRST: tl.constexpr, END: tl.constexpr, mask=None):
    """What lies at the places of some candidates, likewise."""
    found = ()
    for k in tl.static_range(FIRST, END):
        found = found + (tl.load(x + PLACES[k], mask=mask),)  # type: ignore[assignment]
    return found


@triton.jit
def table_of(NUMBERS: tl.constexpr, BLOCK: tl.constexpr):
    """The numbers [BLOCK], filled up with -1."""
    places = tl.arange(0, BLOCK)
    found = tl.full((BLOCK,), -1, tl.int32)
    for place in tl.static_range(len(NUMBERS)):
        found = tl.where(places == place, NUMBERS[place], found)
    return found
