"""What follows from one configuration: which cells there are, what each step is told, what is shown of them.

The workflow reads a `Plan`; each step gets one run of `midas.plan.runs` as JSON and nothing else. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from midas.plan.shown import Shown
from midas.plan.told import Told


@dataclass(frozen=True)
class Plan(Told, Shown):
    """A checked configuration with everything that follows from it."""
