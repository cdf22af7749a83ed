"""How does a CPU compute sums of maps and attention? By kernels that are compiled from C++ at the first use."""
