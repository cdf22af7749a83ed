"""The processes that train one network together, each on its own GPU of one node, or on a CPU."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.distributed as dist
from timm.utils import init_distributed_device, reduce_tensor
from torch import Tensor

from midas.running.devices import pick_device
from midas.running.waiting import leave_if_others_hang


class Group(NamedTuple):
    """The processes that train together, seen from one of them.

    Attributes:
        device: that this process trains on.
        rank: number of this process.
        size: number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def total(self, *values: Tensor) -> list[float]:
        """The sums of some numbers over all processes."""
        numbers = torch.stack([value.double() for value in values])
        return (reduce_tensor(numbers, 1) if self.size > 1 else numbers).tolist()

    def agree(self, wish: bool) -> bool:
        """Whether any of the processes wishes so."""
        return self.total(torch.tensor(float(wish), device=self.device))[0] > 0 if self.size > 1 else wish

    def gather(self, own: Tensor) -> Tensor:
        """A vector of each process, of equal length: [processes, n]."""
        found = [torch.empty_like(own) for _ in range(self.size)]
        if self.size > 1:
            dist.all_gather(found, own)
        else:
            found = [own]
        return torch.stack(found)


def join(name: str, wanted: int) -> Group:
    """Find the other processes of this training.

    Args:
        name: of the device, as in the configuration.
        wanted: how many processes there must be.

    Raises:
        ValueError: there are more or fewer of them than the run asks for, or too few GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != wanted:
        raise ValueError(
            f"gpus: {wanted} needs as many processes, but there are {size}; start it by "
            f"torchrun --standalone --nproc-per-node {wanted} -m midas.transfer RUN FOLDER"
        )
    device = pick_device(name)
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise ValueError(f"gpus: {size} is not allowed; this machine has {torch.cuda.device_count()}")
    if size == 1:
        return Group(device)
    leave_if_others_hang("transfer")  # from here on: they may never come
    found = SimpleNamespace(device=device.type)
    return Group(init_distributed_device(found), found.rank, found.world_size)
