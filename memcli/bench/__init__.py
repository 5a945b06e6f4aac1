"""Benchmarks: generated input, the real command as its own process, and what it took."""
