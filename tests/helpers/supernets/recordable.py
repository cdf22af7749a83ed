"""A dispatch mode that refuses what a CUDA graph can't record, so that a CPU can tell."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

HOST = {
    aten.lift_fresh: "a tensor made of Python's data is copied to the device",
    aten.lift: "a tensor made of Python's data is copied to the device",
    aten._local_scalar_dense: "a value is read back to the host",
    aten.equal: "a value is read back to the host",
    aten.is_nonzero: "a value is read back to the host",
}
SHAPES = (
    *(aten.nonzero, aten.masked_select, aten.unique_consecutive, aten._unique, aten._unique2, aten.unique_dim),
    *(aten.bincount, aten.histc),
)
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)


class UnrecordableError(Exception):
    """What was called, and why no graph can hold it."""


class Recordable(TorchDispatchMode):
    """Runs what a CUDA graph can record and raises an error at all else."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        if packet in HOST:
            raise UnrecordableError(f"{func}: {HOST[packet]}")
        by_mask = packet in INDEXED and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        by_count = packet is aten.repeat_interleave and func._overloadname != "self_int"
        if packet in SHAPES or by_mask or by_count:
            raise UnrecordableError(f"{func}: a shape depends on values")
        found = func(*args, **(kwargs or {}))
        before = {x.device for x in (*args, *(kwargs or {}).values()) if isinstance(x, torch.Tensor)}
        if packet in (aten._to_copy, aten.copy_) and len(before | ({found.device} if before else set())) > 1:
            raise UnrecordableError(f"{func}: a copy between devices")
        return found
