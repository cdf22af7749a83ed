"""The functions of `sums` for a CPU, compiled from kernels.cpp at the first use: each map is read once, none is written between.

Needs a C++ compiler with OpenMP (``$CXX``, or ``c++``). Without one, and for maps whose channels don't lie side by side, `sums`
does the work: slower, the same up to rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from midas.supernet.patches import Grid
from midas.supernet.sums import EPSILON, Gradients, Observed, Term

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", f"-DEPSILON={EPSILON}")
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def usable(x: Tensor) -> bool:
    """Whether these functions can take a map of this device, type and layout."""
    return x.device.type == "cpu" and x.dtype in TYPES and x.stride(1) == 1 and compiled() is not None


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None where they can't be compiled, which is said once."""
    try:
        found = ctypes.CDLL(str(_compile()))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        line = str(reason).strip().splitlines()[0] if str(reason).strip() else type(error).__name__
        warnings.warn(f"a search on this CPU takes longer: {SOURCE.name} can't be compiled ({line})", stacklevel=2)
        return None
    found.call.restype = None
    found.call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    return found


def _compile() -> Path:
    """The library of this source, compiler and processor, compiled unless it is there already."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise OSError(f"there is no compiler {os.environ.get('CXX', 'c++')!r}")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    cpu = Path("/proc/cpuinfo")
    able = next((line for line in cpu.read_text().splitlines() if line[:5] == "flags"), "") if cpu.exists() else ""
    name = hashlib.sha256(repr((SOURCE.read_text(), FLAGS, version, able)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "midas")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir(), f"midas-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise OSError(f"{folder} belongs to another user") from None
    target = folder / f"kernels-{name}.so"
    if not target.exists():
        own = target.with_suffix(f".{os.getpid()}")  # renamed when complete: several jobs may start at once
        try:
            subprocess.run([compiler, *FLAGS, "-o", own, SOURCE], capture_output=True, text=True, check=True)
            own.replace(target)
        finally:
            own.unlink(missing_ok=True)
    return target


def enter(x: Tensor, grid: Grid | None, normalise: bool) -> Observed:
    """See `sums.enter`."""
    images, channels = x.shape[:2]
    patches = grid[0] * grid[1] if grid else 1
    mean, scale, shift = x.new_empty((3, channels), dtype=_wide(x)).unbind(0) if normalise else (None, None, None)
    pooled = x.new_empty((images, patches, channels), dtype=_wide(x)) if grid else None
    if normalise or grid:
        x = _laid(x, x)
        _call("enter", x, grid, [*_map(x), *_addresses(mean, scale, shift, pooled)])
    return Observed(mean, scale, shift, pooled)


def leave(x: Tensor, observed: Observed, grid: Grid | None, parts: Gradients) -> Tensor:
    """See `sums.leave`."""
    x = _laid(x, x)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    terms = [Term(first, _laid(gradient, x), p) for first, gradient, p in parts.terms]
    given, active = [_laid(g, x) for g in parts.given], [_laid(g, x) for g in parts.active]
    small = [None if g is None else g.contiguous() for g in (parts.scale, parts.shift)]
    numbers = [terms[0].gradient.shape[1] if terms else x.shape[1], *_map(x)]
    numbers += _addresses(observed.mean, observed.scale, observed.pooled, *small, parts.pooled)
    numbers += (0, 0, 0) if parts.pooled is None else parts.pooled.stride()
    numbers.append(len(terms))
    for first, gradient, p in terms:
        numbers += (*_map(gradient), first, p.data_ptr(), p.stride(0) if len(p) > 1 else 0)
    _call("leave", x, grid, [*numbers, *_maps(given), *_maps(active), *_map(out)])
    return out


def mix(p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """See `sums.mix`."""
    maps = [_laid(x, maps[0]) for x in maps]
    out = torch.empty_like(maps[0], memory_format=torch.channels_last)
    _call("mix", out, None, [*_maps(maps), *_addresses(scales, shifts, p), _step(p), *_map(out)])
    return out


def mix_backward(
    gradient: Tensor, p: Tensor, scales: Tensor, shifts: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `sums.mix_backward`."""
    maps = [_laid(x, maps[0]) for x in maps]
    gradient = _laid(gradient, maps[0])
    found = torch.zeros_like(p), torch.zeros_like(scales), torch.zeros_like(shifts)
    known = [*_maps(maps), *_addresses(scales, shifts, p), _step(p), *_map(gradient)]
    _call("mix_backward", gradient, None, [*known, *_addresses(*found)])
    return gradient, *found


def average(x: Tensor, stride: int) -> Tensor:
    """See `sums.average`."""
    x = _laid(x, x)
    size = [(side - 1) // stride + 1 for side in x.shape[2:]]
    out = torch.empty((*x.shape[:2], *size), dtype=x.dtype, memory_format=torch.channels_last)
    _call("average", x, None, [stride, *_map(x), *_map(out)])
    return out


def average_backward(gradient: Tensor, like: Tensor, stride: int) -> Tensor:
    """See `sums.average_backward`."""
    gradient = _laid(gradient, like)
    out = torch.empty_like(like, memory_format=torch.channels_last)
    _call("average_backward", like, None, [stride, *_map(gradient), *_map(out)])
    return out


FUNCTIONS = {
    f.__name__: number for number, f in enumerate((enter, leave, mix, mix_backward, average, average_backward))
}


def _call(name: str, like: Tensor, grid: Grid | None, numbers: list[int]) -> None:
    """Call a kernel with the shape of `like` and what else it needs, in the order in which kernels.cpp takes it."""
    numbers = [*like.shape, *(grid or (1, 1)), *numbers]
    packed = (ctypes.c_int64 * len(numbers))(*numbers)
    compiled().call(FUNCTIONS[name], TYPES[like.dtype], torch.get_num_threads(), packed)  # type: ignore[union-attr]


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _laid(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the type of `like`, its channels side by side and its pixels at equal steps."""
    if x.dtype != like.dtype:
        x = x.to(like.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    channel, row, pixel = x.stride()[1:]
    even = row == x.shape[3] * pixel or 1 in x.shape[2:]
    return x if channel == 1 and even else x.contiguous(memory_format=torch.channels_last)


def _map(x: Tensor) -> tuple[int, int, int]:
    """Address, and steps from an image and a pixel to the next."""
    image, _, row, pixel = x.stride()
    return x.data_ptr(), image, pixel if x.shape[3] > 1 else row


def _maps(maps: Sequence[Tensor]) -> list[int]:
    return [len(maps), *(n for x in maps for n in _map(x))]


def _step(p: Tensor) -> int:
    return p.shape[1] if p.shape[0] > 1 else 0


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if x is None else x.data_ptr() for x in tensors]
