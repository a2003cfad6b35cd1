"""Benchmarks: each `bench/*.py` is one command that measures a goal and fails when it is missed."""
