"""Runs all code that calls TensorRT on the classes of NVIDIA's bindings, in a process of its own:
``python -m tests.export.tensorrt.bindings.program FOLDER``. Prints the version and the calls.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_bindings as trt  # pyright: ignore[reportMissingImports] - a folder of PYTHONPATH

from export.tensorrt import callbacks
from export.tensorrt.engine import compile_engine
from export.tensorrt.findings import Findings, Request
from pipeline.sessions.engine import Engine, Feed
from tests.export.tensorrt import graphs
from tests.export.tensorrt.bindings.objects import Object


class Library:
    """The module, except for the three classes whose instances need TensorRT itself."""

    def __init__(self, **made: Any) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: self._made[name]) if name in self._made else getattr(trt, name)


def compiled(folder: Path, parser: Object, **options: Any) -> tuple[Findings, list[str]]:
    """The findings of a compilation, and the calls of the builder and its config."""
    tensor = Object(trt.ITensor, dtype=trt.DataType.BF16)
    layer = Object(trt.ILayer, type=trt.LayerType.RESIZE, name="up", get_input=tensor)
    timings = Object(trt.ITimingCache, serialize=b"timings")
    config = Object(trt.IBuilderConfig, create_timing_cache=timings, get_timing_cache=timings)
    profile = Object(trt.IOptimizationProfile)
    builder = Object(
        trt.Builder,
        create_network=Object(trt.INetworkDefinition, num_layers=1, get_layer=layer),
        create_builder_config=config,
        create_optimization_profile=profile,
        build_serialized_network=Plan(),
    )
    config._answers["add_optimization_profile"] = 0
    request = Request(
        library="tensorrt", onnx=folder / "x.onnx", graph=graphs.turning(), target=None, **options
    )
    library = Library(Builder=builder, OnnxParser=parser)
    found = compile_engine(library, request, lambda percent: None)
    return found, [*builder.calls, *config.calls, *profile.calls, *timings.calls]


class Plan(bytes):
    """An ``IHostMemory``, which is a buffer as well."""

    nbytes = property(lambda self: trt.IHostMemory.nbytes and len(self))


def parse_error() -> Object:
    error = Object(
        trt.ParserError,
        desc="false",
        code=trt.ErrorCode.UNSUPPORTED_NODE,
        node_name="n",
        node_operator="Op",
    )
    return Object(trt.OnnxParser, parse_from_file=False, num_errors=1, get_error=error)


def run(folder: Path) -> list[str]:
    """The calls of a run of an engine with two profiles, which streams its weights."""
    (folder / "x.plan").write_bytes(b"plan")
    context = Object(
        trt.IExecutionContext, get_tensor_shape=(1, 3, 8, 8), update_device_memory_size_for_shapes=9
    )
    engine = Object(
        trt.ICudaEngine,
        num_io_tensors=1,
        num_optimization_profiles=2,
        streamable_weights_size=10,
        create_execution_context=context,
        get_tensor_name="x",
        get_tensor_dtype=trt.DataType.FLOAT,
        get_tensor_mode=trt.TensorIOMode.INPUT,
        get_tensor_shape=(1, 3, -1, -1),
        get_tensor_profile_shape=[(1, 3, 2, 2), (1, 3, 4, 4), (1, 3, 8, 8)],
    )
    runtime = Object(trt.Runtime, deserialize_cuda_engine=engine)
    ran = Engine(Library(Runtime=runtime), folder / "x.plan", 4)
    assert engine.weight_streaming_budget_v2 == 4
    ran._profile = 1  # so that the first run has to switch
    assert ran.set_inputs({"x": Feed("float32", (1, 3, 8, 8), 512)}, 7) == 9
    assert ran.output_shape("y") == (1, 3, 8, 8)
    ran.start({"y": 1024}, 2048, 9, 7)
    return [*engine.calls, *context.calls, *runtime.calls]


def call_back() -> None:
    """Call what TensorRT calls."""
    log, percents = callbacks.Log(), []
    logger = callbacks.logger(trt, log)
    logger.log(trt.ILogger.Severity.ERROR, "wrong")
    logger.log(trt.ILogger.Severity.WARNING, "odd")
    assert (log.errors, log.warnings) == (["wrong"], ["odd"])
    monitor = callbacks.monitor(trt, callbacks.Phases(percents.append))
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0)
    monitor.phase_finish("build")
    assert percents == [50]


def main(folder: Path) -> None:
    """Compile a graph that is refused, one that is checked and one that is built; run an engine."""
    call_back()
    failed, _ = compiled(folder, parse_error())
    assert failed.findings == (
        "n (Op): TensorRT has no such operator, or not with these attributes",
    )
    checked, _ = compiled(folder, Object(trt.OnnxParser))
    assert checked.findings[0].startswith("up (Resize): ")
    options = {
        "plan": folder / "x.plan",
        "timing_cache": folder / "timings",
        "weight_streaming": True,
    }
    built, calls = compiled(folder, Object(trt.OnnxParser), **options)
    assert built.ok, built
    assert (folder / "timings").read_bytes() == b"timings"
    sys.stdout.write(json.dumps({"version": built.version, "calls": [*calls, *run(folder)]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
