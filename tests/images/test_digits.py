"""The embedded images: scikit-learn's digits, and pairs of them."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from midas.images.datasets import KNOWN, class_names
from midas.images.digits import PAIRS_PER_CLASS


def test_digits_are_all_of_scikit_learns_with_their_labels(digits):
    train, test = digits
    assert train.pixels.shape == (1437, 3, 16, 16)
    assert test.pixels.shape == (360, 3, 16, 16)
    original = load_digits()
    levels = np.round(np.arange(17) * 255 / 16).astype(np.uint8)
    expected = sorted(
        (levels[x.astype(int)].tobytes(), y) for x, y in zip(original.images, original.target, strict=True)
    )
    both = [(x[0, ::2, ::2].numpy().tobytes(), int(y)) for part in digits for x, y in zip(*part, strict=True)]
    assert sorted(both) == expected
    for pixels, _ in digits:
        assert torch.equal(
            pixels, pixels[:, :1, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3).expand_as(pixels)
        )


def test_both_parts_of_the_digits_have_all_classes(digits):
    for part in digits:
        counts = torch.bincount(part.labels, minlength=10) / len(part)
        assert counts.min() > 0.07
        assert counts.max() < 0.13


def test_pairs_show_the_digits_that_their_labels_name(digits, pairs):
    for part, single, count in zip(pairs, digits, PAIRS_PER_CLASS.values(), strict=True):
        assert part.pixels.shape == (100 * count, 3, 16, 32)
        assert torch.equal(torch.bincount(part.labels), torch.full((100,), count))
        label_of = {image.numpy().tobytes(): int(label) for image, label in zip(*single, strict=True)}
        left = [label_of[image.numpy().tobytes()] for image in part.pixels[..., :16]]
        right = [label_of[image.numpy().tobytes()] for image in part.pixels[..., 16:]]
        assert part.labels.tolist() == [10 * a + b for a, b in zip(left, right, strict=True)]


def test_no_digit_of_a_test_image_is_among_the_training_pairs(pairs):
    train, test = ({half.numpy().tobytes() for image in part.pixels for half in image.split(16, 2)} for part in pairs)
    assert len(train) > 500
    assert len(test) > 200
    assert not train & test


def test_pairs_do_not_repeat_one_image(pairs):
    for part in pairs:
        assert len({image.numpy().tobytes() for image in part.pixels}) > 0.98 * len(part)


def test_class_names():
    assert class_names(KNOWN["digits"]) == list("0123456789")
    assert class_names(KNOWN["digit_pairs"])[7:12] == ["07", "08", "09", "10", "11"]
    assert class_names(KNOWN["cifar10"])[3] == "cat"
