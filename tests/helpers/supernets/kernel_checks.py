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


def as_factor(x, like):
    """Queries or keys as their product takes them."""
    x = x.relu() if like.relu else x
    if like.normalise == "layer_norm":
        x = x - x.mean(2, keepdim=True)
        return x / (x.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return x / x.square().sum(2, keepdim=True).clamp(min=1e-12).sqrt() if like.normalise == "length" else x
