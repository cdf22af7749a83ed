"""The Triton kernels of `gpu.sums`.

A program takes a tile of pixels and a block of channels. What is summed over a whole map is summed by each program first, and
then by a second kernel, always in the same order.
"""

# kernels take what they are compiled for, and only Triton's compiler knows the types of the rest
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tile(count: tl.constexpr, pixels: tl.constexpr, channels: tl.constexpr, block: tl.constexpr):
    """Of a program: its image, its pixels in that [pixels, 1], its channels [1, block]; which of both there are."""
    tiles: tl.constexpr = (count + pixels - 1) // pixels
    image = tl.program_id(0) // tiles
    pixel = (tl.program_id(0) % tiles * pixels + tl.arange(0, pixels))[:, None]
    channel = (tl.program_id(1) * block + tl.arange(0, block))[None]
    return image, pixel, channel, (pixel < count) & (channel < channels)


@triton.jit
def _read(x, first, step, offset, mask, wide: tl.constexpr):
    """What lies at offsets from pixel number `first` of a map; that place alone can need more than 32 bits."""
    return tl.load(x + first.to(tl.int64) * step + offset, mask, 0).to(wide)


@triton.jit
def enter(
    x, step, means, statistics, patches, height: tl.constexpr, width: tl.constexpr, across: tl.constexpr,
    patch_height: tl.constexpr, patch_width: tl.constexpr, group: tl.constexpr, pixels: tl.constexpr,
    channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Of a group of patches, or a piece of one: means [patches, pieces, C]; mean and squares of all [programs, 2, C]."""
    size: tl.constexpr = patch_height * patch_width
    pieces: tl.constexpr = (size + pixels - 1) // pixels
    in_image: tl.constexpr = height // patch_height * across
    number, piece = tl.program_id(0) // pieces, tl.program_id(0) % pieces
    patch = number * group + tl.arange(0, group)[:, None, None]
    pixel = piece * pixels + tl.arange(0, pixels)[None, :, None]
    channel = tl.program_id(1) * block + tl.arange(0, block)[None, None]
    image, place = number * group // in_image, patch % in_image
    row = (patch // in_image - image) * height + place // across * patch_height + pixel // patch_width
    column = place % across * patch_width + pixel % patch_width
    known = (patch < patches) & (channel < channels)
    mask = known & (pixel < size)
    values = _read(x, image * height * width, step, (row * width + column) * step + channel, mask, wide)
    total, count = tl.sum(values, 1, keep_dims=True), tl.minimum(pixels, size - piece * pixels)
    if means is not None:
        tl.store(means + (patch * pieces + piece) * channels + channel, total / count, known)
    if statistics is not None:
        # from deviations: the difference of two large sums would be wrong where the mean is large
        mean = tl.sum(total, 0, keep_dims=True) / (count * tl.minimum(group, patches - number * group))
        deviations = tl.where(mask, values - mean, 0)
        squares = tl.sum(tl.sum(deviations * deviations, 1, keep_dims=True), 0, keep_dims=True)
        start = statistics + tl.program_id(0) * 2 * channels + channel
        tl.store(start, mean, channel < channels)
        tl.store(start + channels, squares, channel < channels)


@triton.jit
def _combine(
    statistics, channel, patches, programs: tl.constexpr, size: tl.constexpr, group: tl.constexpr, pixels: tl.constexpr,
    rows: tl.constexpr, channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Mean and variance [1, block] of a map from those of programs, by Chan's formula: in each of `rows`, then of all."""
    pieces: tl.constexpr = (size + pixels - 1) // pixels
    n, mean, squares = tl.zeros((rows, 1), wide), tl.zeros((rows, block), wide), tl.zeros((rows, block), wide)
    for first in range(0, programs, rows):
        number = first + tl.arange(0, rows)[:, None]
        mask, place = (number < programs) & (channel < channels), statistics + number * 2 * channels + channel
        inside = tl.minimum(pixels, size - number % pieces * pixels)  # pixels of each of its patches
        count = inside * tl.minimum(group, patches - number // pieces * group)
        count = tl.where(number < programs, count, 0).to(wide)
        share = count / tl.maximum(n + count, 1)
        difference = tl.load(place, mask, 0) - mean
        squares += tl.load(place + channels, mask, 0) + difference * difference * n * share
        mean += difference * share
        n += count
    total = tl.sum(n * mean, 0, keep_dims=True) / (patches * size)
    squares += n * (mean - total) * (mean - total)
    return total, tl.sum(squares, 0, keep_dims=True) / (patches * size)


@triton.jit
def conclude(
    means, statistics, observed, pooled, patches, programs: tl.constexpr, epsilon: tl.constexpr, size: tl.constexpr,
    group: tl.constexpr, pixels: tl.constexpr, rows: tl.constexpr, own: tl.constexpr, channels: tl.constexpr, block: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Mean, scale and shift [3, C], which each program finds by itself; its `own` means over patches [patches, C]."""
    pieces: tl.constexpr = (size + pixels - 1) // pixels
    channel = (tl.program_id(1) * block + tl.arange(0, block))[None]
    if statistics is not None:
        mean, variance = _combine(
            statistics, channel, patches, programs, size, group, pixels, rows, channels, block, wide
        )
        scale = tl.rsqrt(variance + epsilon)
        if tl.program_id(0) == 0:
            tl.store(observed + channel, mean, channel < channels)
            tl.store(observed + channels + channel, scale, channel < channels)
            tl.store(observed + 2 * channels + channel, -mean * scale, channel < channels)
    if pooled is not None:
        patch = (tl.program_id(0) * own + tl.arange(0, own))[:, None]
        mask, total = (patch < patches) & (channel < channels), tl.zeros((own, block), wide)
        for piece in range(pieces):
            theirs = tl.load(means + (patch * pieces + piece) * channels + channel, mask, 0)
            total += theirs * tl.minimum(pixels, size - piece * pixels)
        total = total / size
        if statistics is not None:
            total = (total - mean) * scale
        tl.store(pooled + patch * channels + channel, total, mask)


@triton.jit
def mix(
    maps, steps, p, p_image, p_map, scales, shifts, out, groups, count: tl.constexpr, pixels: tl.constexpr,
    channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """A tile of a sum of maps, each read once."""
    image, pixel, channel, mask = _tile(count, pixels, channels, block)
    total, shift = tl.zeros((pixels, block), wide), tl.zeros((1, block), wide)
    for k in tl.static_range(len(maps)):
        # always so, but the compiler doesn't know; otherwise it reads all maps at once, into more registers than there are
        if k // 4 < groups:
            weight = tl.load(p + image * p_image + k * p_map).to(wide)
            factor = weight * tl.load(scales + k * channels + channel, channel < channels, 0)
            shift += weight * tl.load(shifts + k * channels + channel, channel < channels, 0)
            total += factor * _read(maps[k], image * count, steps[k], pixel * steps[k] + channel, mask, wide)
    place = out + image.to(tl.int64) * count * channels + pixel * channels + channel
    tl.store(place, (total + shift).to(out.dtype.element_ty), mask)


@triton.jit
def products(
    maps, steps, gradient, gradient_step, products, count: tl.constexpr, pixels: tl.constexpr, channels: tl.constexpr,
    block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Sums over a tile of gradient * map, for every so many maps, and of the gradient: [K + 1, tiles, C]."""
    image, pixel, channel, mask = _tile(count, pixels, channels, block)
    values = _read(gradient, image * count, gradient_step, pixel * gradient_step + channel, mask, wide)
    place, known = products + tl.program_id(0) * channels + channel, channel < channels
    step = tl.num_programs(0) * channels
    for k in tl.static_range(len(maps)):
        # few maps for each program: a sum over its tile takes long, and they come one after the other
        if k % tl.num_programs(2) == tl.program_id(2):
            x = _read(maps[k], image * count, steps[k], pixel * steps[k] + channel, mask, wide)
            tl.store(place + k * step, tl.sum(values * x, 0, keep_dims=True), known)
    if tl.program_id(2) == 0:
        tl.store(place + len(maps) * step, tl.sum(values, 0, keep_dims=True), known)


@triton.jit
def gradients(
    products, p, p_image, p_map, scales, shifts, for_p, for_scales, for_shifts, images: tl.constexpr, shared: tl.constexpr,
    tiles: tl.constexpr, rows: tl.constexpr, some: tl.constexpr, channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Gradients of one map's p, scale and shift."""
    k, maps = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, block)[None]
    place, known = k * channels + channel, channel < channels
    scale, shift = tl.load(scales + place, known, 0), tl.load(shifts + place, known, 0)
    by_p, by_scale, by_shift = tl.zeros((rows,), wide), tl.zeros((rows, block), wide), tl.zeros((rows, block), wide)
    for first in range(0, images, rows):
        image = first + tl.arange(0, rows)
        product, total = tl.zeros((rows, block), wide), tl.zeros((rows, block), wide)
        for start in range(0, tiles, some):
            tile = start + tl.arange(0, some)[None, :, None]
            mask = (image[:, None, None] < images) & (tile < tiles) & known[None]
            place_of = products + (image[:, None, None] * tiles + tile) * channels + channel[None]
            product += tl.sum(tl.load(place_of + k * images * tiles * channels, mask, 0), 1)
            total += tl.sum(tl.load(place_of + maps * images * tiles * channels, mask, 0), 1)
        weight = tl.load(p + image * p_image + k * p_map, image < images, 0)[:, None].to(wide)
        by_scale += weight * product
        by_shift += weight * total
        found = tl.sum(product * scale + total * shift, 1)
        by_p += found
        if not shared:
            tl.store(for_p + image * maps + k, found, image < images)
    if shared:
        tl.store(for_p + k, tl.sum(by_p, 0))
    tl.store(for_scales + place, tl.sum(by_scale, 0, keep_dims=True), known)
    tl.store(for_shifts + place, tl.sum(by_shift, 0, keep_dims=True), known)


@triton.jit
def pooled_sums(
    gradient, by_image, by_patch, by_channel, pooled, sums, patches, share: tl.constexpr, in_image: tl.constexpr,
    rows: tl.constexpr, channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Sums over a share of the patches of the gradient of their means, and of gradient * mean: [programs, 2, C]."""
    channel = (tl.program_id(1) * block + tl.arange(0, block))[None]
    total, products = tl.zeros((rows, block), wide), tl.zeros((rows, block), wide)
    for first in range(0, share, rows):
        number = first + tl.arange(0, rows)[:, None]
        patch = tl.program_id(0) * share + number
        mask = (number < share) & (patch < patches) & (channel < channels)
        place = gradient + patch // in_image * by_image + patch % in_image * by_patch + channel * by_channel
        values = tl.load(place, mask, 0)
        total += values
        products += values * tl.load(pooled + patch * channels + channel, mask, 0)
    place = sums + tl.program_id(0) * 2 * channels + channel
    tl.store(place, tl.sum(total, 0, keep_dims=True), channel < channels)
    tl.store(place + channels, tl.sum(products, 0, keep_dims=True), channel < channels)


@triton.jit
def _through_statistics(
    means, scale, for_scale, for_shift, sums, size, channel, shares: tl.constexpr, channels: tl.constexpr
):  # fmt: skip
    """See `sums._through_statistics`: slope and constant [1, block] of a program's channels."""
    known, by_shift, by_scale = channel < channels, tl.zeros_like(scale), tl.zeros_like(scale)
    mean = tl.load(means + channel, known, 0)
    if for_shift is not None:
        by_shift += tl.load(for_shift + channel, known, 0)
    if for_scale is not None:
        by_scale += tl.load(for_scale + channel, known, 0)
    by_scale -= mean * by_shift
    if sums is not None:
        place = sums + tl.arange(0, shares)[:, None] * 2 * channels + channel
        by_shift += tl.sum(tl.load(place, known, 0), 0, keep_dims=True)
        by_scale += tl.sum(tl.load(place + channels, known, 0), 0, keep_dims=True) / scale
    slope = by_scale * scale * scale * scale / -size
    return slope, by_shift * scale / -size - slope * mean


@triton.jit
def leave(
    x, step, out, images, active, active_steps, given, given_steps, terms, term_steps, firsts, widths, weights, weight_steps,
    pooled, by_image, by_patch, by_channel, means, scales, for_scale, for_shift, sums, width: tl.constexpr, across: tl.constexpr,
    patch_height: tl.constexpr, patch_width: tl.constexpr, shares: tl.constexpr, count: tl.constexpr, pixels: tl.constexpr,
    channels: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """A tile of a map's gradient: all its parts, each read once."""
    image, pixel, channel, mask = _tile(count, pixels, channels, block)
    values = _read(x, image * count, step, pixel * step + channel, mask, wide)  # the compiler leaves it out if unused
    total, own = tl.zeros((pixels, block), wide), tl.zeros((pixels, block), wide)
    for n in tl.static_range(len(active)):
        total += _read(active[n], image * count, active_steps[n], pixel * active_steps[n] + channel, mask, wide)
    if len(active) > 0:
        total *= (values > 0).to(wide)
    for n in tl.static_range(len(given)):
        total += _read(given[n], image * count, given_steps[n], pixel * given_steps[n] + channel, mask, wide)
    # of the normalised map
    for n in tl.static_range(len(terms)):
        inside = mask & (channel >= firsts[n]) & (channel < firsts[n] + widths[n])
        place = pixel * term_steps[n] + (channel - firsts[n])
        weight = tl.load(weights[n] + image * weight_steps[n]).to(wide)
        own += weight * _read(terms[n], image * count, term_steps[n], place, inside, wide)
    if pooled is not None:
        patch = pixel // width // patch_height * across + pixel % width // patch_width
        place = pooled + image * by_image + patch * by_patch + channel * by_channel
        own += tl.load(place, mask, 0).to(wide) / (patch_height * patch_width)
    if means is not None:
        scale, size = tl.load(scales + channel, channel < channels, 1), images * count
        slope, constant = _through_statistics(means, scale, for_scale, for_shift, sums, size, channel, shares, channels)
        own = own * scale + values * slope + constant
    place = out + image.to(tl.int64) * count * channels + pixel * channels + channel
    tl.store(place, (total + own).to(out.dtype.element_ty), mask)
