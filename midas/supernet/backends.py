"""Which code computes sums of maps and attention: compiled kernels on a CPU, on a GPU those in Triton if asked for, or torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from torch import Tensor

from midas.supernet import sums
from midas.supernet.cpu import attention as cpu_attention
from midas.supernet.cpu import sums as cpu_sums

_chosen: list[bool] = [False]
"""Whether Triton's kernels are asked for, by the forward pass that runs; gradients remember the code of theirs."""


@contextmanager
def triton(use: bool) -> Iterator[None]:
    """Within it, forward passes take Triton's kernels for what they can do, or leave them."""
    _chosen.append(use)
    try:
        yield
    finally:
        _chosen.pop()


def sums_of(*maps: Tensor) -> ModuleType:
    """The module that reads and writes these maps, functions as in `sums`; Triton's takes all if it can take one."""
    if _chosen[-1]:
        from midas.supernet.gpu import sums as gpu_sums  # takes seconds, and Triton needn't be there

        if any(map(gpu_sums.usable, maps)):
            return gpu_sums
    return cpu_sums if cpu_sums.usable(maps[0]) else sums


def attention_of(pairs: bool, *tensors: Tensor) -> ModuleType | None:
    """The module that attends with these projections and means over patches, as in `cpu.attention`; None: torch does it.

    Args:
        pairs: whether weights are those of pairs of edges, which `cpu.attention` doesn't know.
        tensors: the projections and means.
    """
    if _chosen[-1]:
        from midas.supernet.gpu import attention as gpu_attention

        if gpu_attention.usable_rows(*tensors):
            return gpu_attention
    return cpu_attention if not pairs and cpu_attention.usable_rows(*tensors) else None
