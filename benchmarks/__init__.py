"""Measure the engine against what a competent engineer would write instead: `python -m benchmarks`."""
