"""Batches: statistics, augmentation against one image at a time, order and repeatability."""

import numpy as np
import pytest
import torch
from image_data import same

from midas.images.datasets import KNOWN
from midas.images.loader import Loader, Statistics, cutout, in_order, random_crop
from midas.images.reading import Images
from midas.images.seeds import generator


def test_statistics_are_those_of_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5)) // np.array([1, 2, 3])[None, :, None, None]
    statistics = Statistics.of(Images(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(50)))
    np.testing.assert_allclose(statistics.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(statistics.std.flatten(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_normalised_images_have_mean_0_and_deviation_1(digits):
    x = Statistics.of(digits[0]).normalise(digits[0].pixels)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)


def test_a_set_of_one_gray_value_is_no_division_by_zero():
    images = Images(torch.full((4, 3, 2, 2), 9, dtype=torch.uint8), torch.zeros(4))
    assert torch.equal(Statistics.of(images).normalise(images.pixels), torch.zeros(4, 3, 2, 2))


def test_images_in_order_are_all_images_unchanged(digits):
    test, statistics = digits[1], Statistics.of(digits[0])
    x, y = (torch.cat(parts) for parts in zip(*in_order(test, statistics, 64), strict=True))
    assert torch.equal(x, statistics.normalise(test.pixels))
    assert torch.equal(y, test.labels)
    sizes = [len(y) for _, y in in_order(test, statistics, 64)]
    assert max(sizes) <= 64
    assert max(sizes) - min(sizes) <= 1


# --- augmentation against one image at a time


def naive_crop(image, padding, down, right):
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for c in range(channels):
        for row in range(height):
            for column in range(width):
                r, k = row + down - padding, column + right - padding
                if 0 <= r < height and 0 <= k < width:
                    result[c, row, column] = image[c, r, k]
    return result


def naive_cutout(image, side, row, column):
    result = image.clone()
    for r in range(row - side // 2, row - side // 2 + side):
        for c in range(column - side // 2, column - side // 2 + side):
            if 0 <= r < image.shape[1] and 0 <= c < image.shape[2]:
                result[:, r, c] = 0
    return result


@pytest.mark.parametrize("padding", [1, 3])
def test_crop(padding):
    x = torch.randint(1, 256, (40, 3, 6, 9), dtype=torch.uint8, generator=generator(0, "x", 0, 0))
    shift = torch.randint(2 * padding + 1, (2, 40), generator=generator(0, "crop", 0, 0))
    down, right = shift
    expected = torch.stack(
        [naive_crop(image, padding, int(d), int(r)) for image, d, r in zip(x, down, right, strict=True)]
    )
    assert torch.equal(random_crop(x, padding, shift), expected)
    assert {*down.tolist()} == {*right.tolist()} == {*range(2 * padding + 1)}


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout(side):
    x = torch.rand(60, 3, 8, 10, generator=generator(0, "x", 0, 0)) + 1
    draw = generator(0, "cutout", 0, 0)
    rows, columns = torch.randint(8, (60,), generator=draw), torch.randint(10, (60,), generator=draw)
    expected = torch.stack([naive_cutout(i, side, int(r), int(c)) for i, r, c in zip(x, rows, columns, strict=True)])
    result = cutout(x, side, torch.stack([rows, columns]))
    assert torch.equal(result, expected)
    blanked = (result == 0).all(1).sum((1, 2))
    assert blanked.max() == side * side
    assert side == 1 or blanked.min() < side * side  # some reach over the border


@pytest.mark.parametrize(("flip", "padding", "side"), [(True, 2, 3), (True, 0, 0), (False, 2, 0)])
def test_a_batch_is_cropped_flipped_normalised_and_cut_out(digits, flip, padding, side):
    images, statistics = digits[0].take(torch.arange(64)), Statistics.of(digits[0])
    dataset = KNOWN["digits"].model_copy(update={"flip": flip, "padding": padding})
    loader = Loader(images, statistics, 32, seed=5, stream="train", dataset=dataset, cutout=side)
    order = torch.randperm(64, generator=generator(5, "train", 3, 0))
    for step, (x, y) in enumerate(loader.epoch(3)):
        index, draw = order[32 * step : 32 * step + 32], generator(5, "train", 3, step + 1)
        shift = torch.randint(2 * padding + 1, (2, 32), generator=draw) if padding else torch.zeros(2, 32)
        flips = torch.rand(32, generator=draw) < 0.5 if flip else torch.zeros(32)
        rows = torch.randint(16, (32,), generator=draw) if side else torch.zeros(32)
        columns = torch.randint(16, (32,), generator=draw) if side else torch.zeros(32)
        assert torch.equal(y, images.labels[index])
        for i in range(32):
            image = naive_crop(images.pixels[index[i]], padding, int(shift[0, i]), int(shift[1, i]))
            image = torch.stack([row.flip(-1) for row in image.unbind(1)], 1) if flips[i] else image
            image = statistics.normalise(image[None])[0]
            assert torch.equal(x[i], naive_cutout(image, side, int(rows[i]), int(columns[i])))
        assert not flip or 5 < flips.sum() < 27


# --- the loader


def make_loader(digits, seed=0, stream="train", batch_size=64):
    return Loader(digits[0], Statistics.of(digits[0]), batch_size, seed, stream, KNOWN["digits"])


def test_batches_are_a_function_of_seed_stream_epoch_and_step(digits):
    whole = [list(make_loader(digits).epoch(epoch)) for epoch in range(3)]
    torch.manual_seed(99)
    resumed = make_loader(digits)
    for step, batch in enumerate(resumed.epoch(2)):
        torch.rand(step + 1)  # the global generator has no part in it
        assert same(batch, whole[2][step])
    middle = resumed.epoch(1)
    for _ in range(4):
        next(middle)
    assert same(next(middle), whole[1][4])


@pytest.mark.parametrize("other", [{"seed": 1}, {"stream": "valid"}, {"epoch": 1}])
def test_another_seed_stream_or_epoch_draws_other_batches(digits, other):
    epoch = other.get("epoch", 0)
    loader = make_loader(digits, **{key: value for key, value in other.items() if key != "epoch"})
    first, second = list(make_loader(digits).epoch(0)), list(loader.epoch(epoch))
    assert len(first) == len(second) == 22
    assert not any(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_steps_of_an_epoch_are_augmented_differently(digits):
    one = Images(digits[0].pixels[:1].repeat(64, 1, 1, 1), digits[0].labels[:1].repeat(64))
    loader = Loader(one, Statistics.of(digits[0]), 32, 0, "train", KNOWN["digits"])
    (first, _), (second, _) = loader.epoch(0)
    assert not torch.equal(first, second)


def test_an_epoch_shows_each_image_at_most_once_and_leaves_the_rest_out(digits):
    numbered = Images(digits[0].pixels, torch.arange(len(digits[0])))
    loader = Loader(numbered, Statistics.of(digits[0]), 64, 0, "train", KNOWN["digits"])
    seen = torch.cat([y for _, y in loader.epoch(0)])
    assert len(seen) == len(seen.unique()) == 64 * len(loader) == 1437 // 64 * 64
    assert len(torch.cat([seen, *(y for _, y in loader.epoch(1))]).unique()) > len(seen)


def test_fewer_images_than_a_batch_are_refused(digits):
    with pytest.raises(ValueError, match="batch_size: 1438 is not allowed; digits has 1437 images for train"):
        make_loader(digits, batch_size=1438)


@pytest.mark.parametrize("order", ["shuffled", "fresh", "random"])
def test_batches_hold_each_image_as_often_as_their_order_says(digits, order):
    train, batch = digits[0], 32
    loader = Loader(train, Statistics.of(train), batch, 0, "valid", KNOWN["digits"], order=order)
    drawn = loader.draw(3).order
    assert drawn.shape == (len(train) // batch, batch)
    assert 0 <= drawn.min() <= drawn.max() < len(train)
    assert torch.equal(drawn, loader.draw(3).order)
    within = [len(set(row.tolist())) == batch for row in drawn]
    assert all(within) == (order != "random")  # among hundreds of images some are drawn twice in 32 of them
    assert (len(set(drawn.flatten().tolist())) == drawn.numel()) == (order == "shuffled")
    assert torch.equal(
        loader.draw(3).shift, Loader(train, loader.statistics, batch, 0, "valid", KNOWN["digits"]).draw(3).shift
    )
