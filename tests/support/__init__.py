"""What the whole-system tests and the benchmarks share."""
