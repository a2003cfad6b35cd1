"""Compile one ONNX graph to one engine with TensorRT's Python API: the same code for `tensorrt` and
`tensorrt_rtx`.

Data types are those of the graph ("strongly typed"): the builder chooses kernels, never a
precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from export.records import GraphRecord
from export.tensorrt import callbacks, files, findings, rules
from export.tensorrt.findings import MOST_FINDINGS, Findings, Request


def compile_engine(trt: Any, request: Request, on_percent: Callable[[int], None]) -> Findings:
    """Parse and build with the library ``trt``; write the engine to ``request.plan`` if that is
    set.
    """
    started, log = time.monotonic(), callbacks.Log()
    builder = trt.Builder(callbacks.logger(trt, log))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    # By path: weights outside the file are found beside it.
    if not parser.parse_from_file(str(request.onnx)):
        messages = [
            findings.of_parser(parser.get_error(index)) for index in range(parser.num_errors)
        ]
        return _failed(trt, messages or log.errors, started)
    if request.plan is None and (broken := rules.broken(trt, network)):
        return _failed(trt, broken, started)
    phases = callbacks.Phases(on_percent)
    progress = callbacks.monitor(trt, phases)
    config = _config(trt, builder, request)
    config.progress_monitor = progress
    if not _add_profiles(builder, config, request.graph):
        return _failed(
            trt, log.errors or ["the sizes of the profile do not fit the graph"], started
        )
    plan = _build(builder, network, config, request)
    if plan is None:
        return _failed(trt, log.errors or ["the builder failed and gave no reason"], started)
    on_percent(100)  # the last step is never reported
    if request.plan:
        files.write(request.plan, plan)
    return Findings(
        version=trt.__version__,
        ok=True,
        seconds=time.monotonic() - started,
        engine_bytes=plan.nbytes,
        activation_bytes=log.activation_bytes,
        findings=tuple(log.warnings[:MOST_FINDINGS]),
    )


def _config(trt: Any, builder: Any, request: Request) -> Any:
    config = builder.create_builder_config()
    if not request.tf32:
        # fp32 in the graph means fp32; a graph that may be rounded is exported as bf16 or fp16.
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.weight_streaming:
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    if request.library == "tensorrt_rtx" and request.target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, request.target.upper()), 0)
    return config


def _add_profiles(builder: Any, config: Any, graph: GraphRecord) -> bool:
    for sizes in graph.profiles:
        profile = builder.create_optimization_profile()
        for name in sizes.min:
            profile.set_shape(name, sizes.min[name], sizes.opt[name], sizes.max[name])
        if config.add_optimization_profile(profile) < 0:
            return False
    return True


def _build(builder: Any, network: Any, config: Any, request: Request) -> Any:
    """Return the serialized engine, or None. tensorrt-rtx times no kernels here, so a timing cache
    would not help it.
    """
    cache = request.timing_cache if request.library == "tensorrt" else None
    if cache:
        files.load_timings(config, cache)
    plan = builder.build_serialized_network(network, config)
    if cache and plan is not None:
        files.save_timings(config, cache)
    return plan


def _failed(trt: Any, messages: list[str], started: float) -> Findings:
    seconds = time.monotonic() - started
    return Findings(
        version=trt.__version__, ok=False, seconds=seconds, findings=tuple(messages[:MOST_FINDINGS])
    )
