"""Benchmarks: each `bench/*.py` is one command that measures a goal and fails when it is missed."""

from pipeline.system.telemetry import opt_out

opt_out()  # before a benchmark imports ONNX Runtime
