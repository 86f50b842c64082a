"""Benchmarks that hold both ends against each other: `python -m benchmarks --help`."""
