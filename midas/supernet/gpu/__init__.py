"""Sums of maps and attention for a GPU, as Triton kernels: what `midas.supernet.kernels` is for a CPU."""
