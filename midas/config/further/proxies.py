"""The group of a configuration that asks for scores without training, on a sample of NAS-Bench-201's cells."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from midas.config.kinds import Cells, Location, Name, Positive, Strict
from midas.spaces.benchmark import CELLS, COLUMNS

TAKEN = {*COLUMNS, "params", "seconds"}
"""What no column of robust accuracies can be called."""


class Robust(Strict):
    """A table of the user with robust accuracies of NAS-Bench-201's cells."""

    table: Location = Field(description="csv file (may be compressed) with a column arch and those of the key columns")
    columns: list[str] = Field(min_length=1, description="its columns with robust accuracies, in percent")

    @field_validator("columns")
    @classmethod
    def _names_of_their_own(cls, columns: list[str]) -> list[str]:
        """A column has its name in the table of results too, where clean accuracies and others have theirs."""
        if taken := [name for name in columns if name in TAKEN or columns.count(name) > 1]:
            raise ValueError(f"{taken[0]} is taken, or there twice")
        return columns


class Proxies(Strict):
    """Scores without training of cells of NAS-Bench-201 that are drawn at random: table S3."""

    dataset: Name = Field(
        description="whose images the scores are computed on: as of an experiment, its images in memory"
    )
    sample: Annotated[int, Field(ge=2, le=CELLS)] = Field(1000, description="cells that are drawn and scored")
    chunk: Positive = Field(50, description="cells that one job scores, one after the other")
    seed: Annotated[int, Field(ge=0)] = Field(42, description="seed of sample, batch and initial weights")
    batch_size: Annotated[int, Field(ge=2)] = Field(8, description="images in the one batch, augmented")
    channels: Positive = Field(16, description="initial channels of the networks")
    cells: Cells = Field(5, description="cells in each of the three stages")
    robust: Robust | None = Field(None, description="robust accuracies to compare with; null: clean ones alone")

    @property
    def chunks(self) -> int:
        """How many jobs score the sample."""
        return -(-self.sample // self.chunk)
