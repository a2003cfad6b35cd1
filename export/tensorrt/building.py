"""Build the engine that a server will run, and write the record beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.records import GraphRecord
from export.tensorrt import process
from export.tensorrt.findings import Findings, Request
from export.tensorrt.targets import (
    TARGETS,
    gpu_target,
    installed_version,
    is_installed,
    require_file,
)
from pipeline.errors import CheckpointError, InputError
from pipeline.sessions.engine_record import EngineRecord, Library

TIMEOUT = 4 * 3600.0
"""Limit of one build in seconds: timing kernels on the GPU takes far longer than compiling them."""


def build(
    onnx: Path,
    graph_record: GraphRecord,
    plan: Path,
    *,
    timing_cache: Path | None = None,
    on_progress: Callable[[int], None],
    weight_bytes: int | None = None,
    tf32: bool = False,
    library: Library = "tensorrt",
    target: str | None = None,
    timeout: float = TIMEOUT,
) -> Findings:
    """Build the graph in the file ``onnx`` into the file ``plan``, and write ``<plan>.json`` beside
    it.

    ``tensorrt`` builds for this machine's GPU and is what Triton's tensorrt backend runs.
    ``tensorrt_rtx`` builds for ``target``, without needing a GPU, or for this GPU. ``on_progress``
    is called with a percentage. ``weight_bytes`` is the weight streaming budget: how much of its
    weights the engine keeps in GPU memory, the others being in host memory; None: all. With
    ``tf32``, fp32 convolutions and products may round their inputs to TF32.

    Raises ``InputError`` if this machine cannot build, ``CheckpointError`` if the graph cannot be
    built.
    """
    require_file(onnx)
    built_for = require_builder(library, target)
    asked_for = target if library == "tensorrt_rtx" else None
    request = Request(
        library=library,
        onnx=onnx,
        graph=graph_record,
        target=asked_for,
        plan=plan,
        timing_cache=timing_cache,
        weight_streaming=weight_bytes is not None,
        tf32=tf32,
    )
    found = process.run(request, on_progress, timeout)
    if not found.ok:
        raise CheckpointError(
            f"{onnx} cannot be built for {built_for}: {found.findings[0]}",
            details="\n".join(found.findings),
        )
    EngineRecord(
        library=library,
        version=found.version,
        target=built_for,
        engine_bytes=found.engine_bytes,
        activation_bytes=found.activation_bytes,
        weight_bytes=weight_bytes,
    ).save(plan)
    return found


def verify(plan: Path) -> EngineRecord:
    """Return the record of ``plan``. Raises ``CheckpointError`` if this machine has another version
    of the library.

    A machine without the library or the GPU cannot tell: plans are copied between machines.
    """
    record = EngineRecord.load(plan)
    if not plan.is_file():
        raise CheckpointError(f"{plan} is missing; export the checkpoint again")
    if plan.stat().st_size != record.engine_bytes:
        raise CheckpointError(
            f"{plan} is cut short or damaged: it should have {record.engine_bytes} bytes"
        )
    if version := installed_version(record.library):
        record.require(record.library, version, plan)
    return record


def require_builder(library: Library = "tensorrt", target: str | None = None) -> str:
    """Return the compute capability to build for. Raises ``InputError`` if this machine cannot
    build, with an alternative.
    """
    here = gpu_target()
    if here is None and (library == "tensorrt" or not target):
        raise InputError(
            "flavour",
            "tensorrt builds on the GPU that serves, and this machine has none; choose python",
        )
    if not is_installed(library):
        wanted = {
            "tensorrt": "tensorrt in the server's version, as the image gpu has it",
            "tensorrt_rtx": "tensorrt-rtx, which triton-video[check] installs",
        }
        raise InputError(
            "flavour", f"tensorrt needs the package {wanted[library]}; install it, or choose python"
        )
    if library == "tensorrt_rtx" and target:
        if target not in TARGETS:
            raise InputError(
                "flavour", f"tensorrt_rtx cannot build for {target}; it knows {', '.join(TARGETS)}"
            )
        return target
    assert here is not None
    if target not in (None, here):
        raise InputError(
            "flavour",
            f"tensorrt builds for the GPU of this machine, which is {here} and not {target}",
        )
    return here
