"""The step data describes what it reads."""

import json

import numpy as np
from image_data import CPU

from midas.data import prepare
from midas.images.reading import load
from midas.plan.runs import DataRun


def test_the_step_describes_the_data(few_digits, tmp_path):
    prepare(DataRun(dataset=few_digits), tmp_path / "data")
    metrics = json.loads((tmp_path / "data/metrics.json").read_text())
    train, test = load(few_digits, CPU)
    assert (metrics["train_images"], metrics["test_images"]) == (len(train), len(test)) == (200, 50)
    np.testing.assert_allclose(metrics["mean"], (train.pixels / 255).mean((0, 2, 3)), atol=2e-6)
    np.testing.assert_allclose(metrics["std"], (train.pixels / 255).std((0, 2, 3), correction=0), atol=2e-6)
    assert len(metrics["sha256"]) == 64


def test_the_digest_of_the_data_sees_a_changed_label(few_digits, tmp_path):
    with np.load(few_digits.path) as file:
        arrays = dict(file)
    arrays["y_test"][0] = (arrays["y_test"][0] + 1) % 10
    np.savez(tmp_path / "changed.npz", **arrays)
    sums = []
    for name, path in (("a", few_digits.path), ("b", str(tmp_path / "changed.npz"))):
        prepare(DataRun(dataset=few_digits.model_copy(update={"path": path})), tmp_path / name)
        sums.append(json.loads((tmp_path / name / "metrics.json").read_text())["sha256"])
    assert sums[0] != sums[1]
