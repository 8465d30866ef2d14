"""Benchmarks: this code and PyTorch, growth with size, and the share of the machine's rate."""
