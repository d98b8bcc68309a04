"""Time skmixed against other packages on the same data; see docs/benchmarks.md."""
