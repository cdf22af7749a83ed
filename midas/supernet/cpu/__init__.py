"""Sums of maps and attention for a CPU, compiled from C++ at the first use."""
