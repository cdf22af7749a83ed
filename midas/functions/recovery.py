"""How often a search finds a known function again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from midas.config.further.functions import Functions
from midas.functions.estimator import FunctionRegressor
from midas.functions.fitting import DivergedError

ENDS = (-2.0, 2.0)
"""Between these lie the points."""
ENOUGH = 0.99
"""A function is found again if it explains this share of the variance of the true one over evenly spaced points."""
POINTS = 101


class Target(NamedTuple):
    """A function to be found.

    Attributes:
        function: of points [n].
        primitive: the operation that it is.
    """

    function: Callable[[np.ndarray], np.ndarray]
    primitive: str


TARGETS = {
    "line": Target(lambda x: 2 * x + 1, "linear"),
    "hinge": Target(lambda x: np.maximum(0, 2 * x), "linear_relu"),
    "sine": Target(np.sin, "sin"),
    "exponential": Target(np.exp, "exp"),
}


def recoveries(asked: Functions) -> Iterator[dict[str, Any]]:
    """A row for each search, in the order of the configuration.

    Args:
        asked: what is searched, and how.

    Yields:
        target, noise, method, seed; `explained`, see `ENOUGH`; `found` (0 or 1); `same_form` (1: besides "none" the only
        operation is the target's own); the decoded operations, by blanks; the equation in one line. Of a search that has
        diverged `explained` is NaN, and texts are empty.
    """
    for name in asked.targets:
        for noise in asked.noise:
            for method in asked.methods:
                for seed in range(asked.seeds):
                    names = {"target": name, "noise": noise, "method": method, "seed": seed}
                    yield names | _recovery(asked, TARGETS[name], noise, method, seed)


def _recovery(asked: Functions, target: Target, noise: float, method: str, seed: int) -> dict[str, Any]:
    x, y = drawn(target, asked.rows, noise, seed)
    estimator = FunctionRegressor(
        tuple(asked.primitives), asked.nodes, method, drift=asked.drift, epochs=asked.epochs, updates=asked.updates,
        refit_updates=asked.refit_updates, arch_lr=asked.arch_lr, warm_start=False, random_state=seed,
    )  # fmt: skip
    try:
        estimator.fit(x, y)
    except DivergedError:
        return {"explained": math.nan, "found": 0, "same_form": 0, "operations": "", "equation": ""}
    points = np.linspace(*ENDS, POINTS)
    explained = float(estimator.score(points[:, None], target.function(points)))
    operations = [name for name in estimator.operations_ if name != "none"]
    return {
        "explained": explained,
        "found": int(explained >= ENOUGH),
        "same_form": int(operations == [target.primitive]),
        "operations": " ".join(estimator.operations_),
        "equation": estimator.equation().replace("\n", "; "),
    }


def drawn(target: Target, rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [rows, 1] and values [rows] of a seed; equal points with and without noise."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(*ENDS, (rows, 1))
    y = target.function(x[:, 0])
    return x, y + noise * y.std() * draw.standard_normal(rows)
