"""Random tensors for kernels, and how far a result may be from that of torch."""

import torch

BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 2e-2}


def make(dtype, *shape, seed=0):
    """A map with its channels side by side."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def close(found, expected, dtype):
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, theirs, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])
