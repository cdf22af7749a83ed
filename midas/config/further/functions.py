"""The group of a configuration that asks for the search over functions: which are to be found again, of what, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from midas.config.kinds import Positive, Rate, Strict
from midas.spaces.functions import PRIMITIVES


def _known(name: str) -> str:
    if name not in PRIMITIVES:
        raise ValueError(f"there is no such primitive; {', '.join(PRIMITIVES)}")
    return name


def _each_once(names: list[Any]) -> list[Any]:
    if len(set(names)) < len(names):
        raise ValueError("each once")
    return names


Primitives = Annotated[list[Annotated[str, AfterValidator(_known)]], AfterValidator(_each_once), Field(min_length=1)]
Target = Literal["line", "hinge", "sine", "exponential"]
Kind = Literal["original", "fair"]


class Functions(Strict):
    """Search over functions (AutoRA's use of DARTS): how often a known one is found again. Table S4."""

    targets: Annotated[list[Target], AfterValidator(_each_once)] = Field(
        ["line", "hinge", "sine", "exponential"],
        min_length=1,
        description="functions of x from -2 to 2: 2x + 1, max(0, 2x), sin x, exp x",
    )
    methods: Annotated[list[Kind], AfterValidator(_each_once)] = Field(
        ["original", "fair"], min_length=1, description="softmax over the primitives of an edge, or a sigmoid of each"
    )
    seeds: Positive = Field(10, description="searches of each, with seeds from 0; each draws rows of its own")
    rows: Annotated[int, Field(ge=2)] = Field(200, description="points, uniformly drawn")
    noise: Annotated[list[Rate], AfterValidator(_each_once)] = Field(
        [0.0, 0.1],
        min_length=1,
        description="standard deviations of normal noise on y, as shares of that of y without it",
    )
    primitives: Primitives = Field(
        ["none", "add", "subtract", "mult", "linear", "linear_relu", "linear_logistic", "sin", "exp"],
        description="operations that every edge offers (midas/spaces/functions.py)",
    )
    nodes: Positive = Field(1, description="sums of primitives; y is their sum")
    epochs: Annotated[int, Field(ge=0)] = Field(10, description="epochs of a search")
    updates: Positive = Field(10, description="steps of the coefficients in an epoch, after one of the architecture")
    refit_updates: Positive = Field(100, description="steps of the decoded function's coefficients")
    arch_lr: Rate = Field(3e-3, description="Adam learning rate of the architecture parameters")
    drift: Rate = Field(
        3e-4, description="factor of the drift against complex primitives, times arch_lr and complexity"
    )


class FunctionsRun(Strict):
    """What the step is told."""

    threads: int = 1
    functions: Functions
