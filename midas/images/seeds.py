"""What a random draw is a function of: seed, stream, epoch and step, on whatever device."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, stream: str, epoch: int, step: int) -> torch.Generator:
    """A CPU generator whose draws are a function of its arguments."""
    return torch.Generator().manual_seed(_number(seed, stream, epoch, step))


def seed_step(seed: int, stream: str, epoch: int, step: int) -> None:
    """Seed torch's global generators, which drop-path and parameter initialisation draw from."""
    torch.manual_seed(_number(seed, stream, epoch, step))


def _number(seed: int, stream: str, epoch: int, step: int) -> int:
    name = f"{seed} {stream} {epoch} {step}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:7], "big")
