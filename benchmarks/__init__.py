"""Measurements of the package, each run from a clone as `python -m benchmarks.NAME`."""
