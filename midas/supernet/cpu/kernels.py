"""The library that is compiled of kernels.cpp and the headers beside it, and how its functions are called.

Needs a C++ compiler with OpenMP (``$CXX``, or ``c++``). Without one, and for maps whose channels don't lie side by side, `sums`
of the supernet does the work: slower, the same up to rounding.
"""

from __future__ import annotations

import ctypes
import subprocess
import warnings
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from midas.supernet.compiler import library
from midas.supernet.patches import Grid
from midas.supernet.sums import EPSILON

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", f"-DEPSILON={EPSILON}")
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None where they can't be compiled, which is said once."""
    try:
        found = ctypes.CDLL(str(library(SOURCE, FLAGS)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        line = str(reason).strip().splitlines()[0] if str(reason).strip() else type(error).__name__
        warnings.warn(f"a search on this CPU takes longer: {SOURCE.name} can't be compiled ({line})", stacklevel=2)
        return None
    found.call.restype = None
    found.call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    return found


FUNCTIONS = (
    *("enter", "leave", "pointwise", "pointwise_backward", "mix", "mix_backward"),
    *("average", "average_backward", "attend", "attend_backward", "project", "project_backward"),
)
"""The functions of kernels.cpp by their numbers."""


def there() -> bool:
    """Whether the kernels can be called here."""
    return compiled() is not None


def multiplies(dtype: torch.dtype) -> bool:
    """Whether they multiply matrices of a type on this processor."""
    return there() and bool(compiled().multiplies(TYPES[dtype]))  # type: ignore[union-attr]


def call(name: str, dtype: torch.dtype, shape: Sequence[int], grid: Grid | None, numbers: list[int]) -> None:
    """Call a kernel for maps of a type and shape with what else it needs, in the order in which kernels.cpp takes it."""
    numbers = [*shape, *(grid or (1, 1)), *numbers]
    packed = array("q", numbers)
    compiled().call(FUNCTIONS.index(name), TYPES[dtype], torch.get_num_threads(), packed.buffer_info()[0])  # type: ignore[union-attr]


def wide(x: Tensor) -> torch.dtype:
    """The type in which sums over a map are kept."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def laid(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the type of `like`, its channels side by side and its pixels at equal steps."""
    if x.dtype != like.dtype:
        x = x.to(like.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    channel, row, pixel = x.stride()[1:]
    even = row == x.shape[3] * pixel or 1 in x.shape[2:]
    return x if channel == 1 and even else x.contiguous(memory_format=torch.channels_last)


def of_map(x: Tensor) -> tuple[int, int, int]:
    """Address, and steps from an image and a pixel to the next."""
    image, _, row, pixel = x.stride()
    return x.data_ptr(), image, pixel if x.shape[3] > 1 else row


def of_rows(x: Tensor | None) -> tuple[int, int, int]:
    """Address, and steps from an image and a patch to the next, of means over patches [B, R, C], channels side by side."""
    return (0, 0, 0) if x is None else (x.data_ptr(), x.stride(0), x.stride(1))


def of_maps(maps: Sequence[Tensor]) -> list[int]:
    """How many, and `of_map` of each."""
    return [len(maps), *(n for x in maps for n in of_map(x))]


def step(p: Tensor) -> int:
    """From an image's weights [B or 1, K] to the next one's."""
    return p.shape[1] if p.shape[0] > 1 else 0


def addresses(*tensors: Tensor | None) -> list[int]:
    """Of the first number of each; 0 of what isn't there."""
    return [0 if x is None else x.data_ptr() for x in tensors]
