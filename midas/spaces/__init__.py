"""What can be found? Search spaces as data: a new space is one file here and one line in `SPACES`."""

from __future__ import annotations

from midas.files.naming import among
from midas.spaces.bench_suite import BENCH_SUITE
from midas.spaces.darts import DARTS
from midas.spaces.nas_bench_201 import NAS_BENCH_201
from midas.spaces.s1 import S1
from midas.spaces.s2 import S2
from midas.spaces.s3 import S3
from midas.spaces.s4 import S4
from midas.spaces.space import CellSpec, Layer, Space

SPACES = {space.name: space for space in (NAS_BENCH_201, DARTS, S1, S2, S3, S4, *BENCH_SUITE)}

__all__ = ["SPACES", "CellSpec", "Layer", "Space", "get_space"]


def get_space(name: str, offer_none: bool = False) -> Space:
    """Look a space up by name.

    Args:
        name: of the space.
        offer_none: whether "none" is a candidate of every edge, too: the key of a method.

    Raises:
        ValueError: there is no such space; the message lists those there are.
    """
    if name not in SPACES:
        raise ValueError(f"space {name!r} does not exist{among(name, SPACES)}")
    return SPACES[name].with_none() if offer_none else SPACES[name]
