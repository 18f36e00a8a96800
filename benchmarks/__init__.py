"""Measure fedorm against what a user would write without it: ``python -m benchmarks``."""
