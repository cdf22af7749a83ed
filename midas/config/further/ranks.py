"""Keys of rankings of methods."""

from __future__ import annotations

from pydantic import Field

from midas.config.kinds import Name, Strict


class Ranks(Strict):
    """Methods ranked by the accuracy of their cells: by experiment and by retraining settings. Table S1 and figure S1."""

    methods: list[Name] = Field(
        min_length=2,
        description="methods that are ranked, in every experiment that retrains the cells of all of them",
    )
