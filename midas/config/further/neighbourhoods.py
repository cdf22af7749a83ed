"""Keys of the neighbourhoods of found cells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from midas.config.kinds import Strict

Accuracy = Literal[
    "c10_valid_acc_200",
    "c10_test_acc_200",
    "c100_valid_acc_200",
    "c100_test_acc_200",
    "in16_valid_acc_200",
    "in16_test_acc_200",
]


class Neighbourhoods(Strict):
    """How accurate the cells of NAS-Bench-201 are that lie near the found ones: table S2 and figure S2."""

    accuracies: list[Accuracy] = Field(
        ["c10_test_acc_200", "c100_test_acc_200", "in16_test_acc_200"],
        min_length=1,
        description="columns of the benchmark's table that are looked at, each once",
    )
    random_cells: Annotated[int, Field(ge=2, le=10_000)] = Field(
        1000, description="cells drawn at random that found ones stand beside"
    )
    matched_cells: Annotated[int, Field(ge=1, le=1000)] = Field(
        100,
        description="for each found cell, so many cells that no search found whose accuracies are nearest to its own",
    )
    draws: Annotated[int, Field(ge=100)] = Field(
        10_000, description="draws of the permutation test of found cells against those of the same accuracy"
    )
