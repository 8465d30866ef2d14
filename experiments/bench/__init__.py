"""Benchmarks: this code beside PyTorch, growth with size, and the share of what the machine can."""
