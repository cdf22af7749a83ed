"""What the attention's kernels read, tile by tile: maps over patches, products with a weight, numbers at places."""

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
