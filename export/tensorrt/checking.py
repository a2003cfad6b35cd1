"""Check that a graph will compile on a GPU that is not here: tensorrt-rtx compiles for a given
compute capability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from export.records import CheckResult, GraphRecord
from export.tensorrt import process
from export.tensorrt.findings import Request
from export.tensorrt.targets import require_file, require_targets
from pipeline.errors import CheckpointError

TIMEOUT = 3600.0
"""Limit of one compilation in seconds. The largest graphs take minutes."""


def check(
    onnx: Path,
    graph_record: GraphRecord,
    targets: Sequence[str],
    on_progress: Callable[[str, int], None],
    timeout: float = TIMEOUT,
) -> tuple[CheckResult, ...]:
    """Compile the graph in the file ``onnx`` for each target and discard the engines; return a
    result per target.

    ``on_progress(target, percent)`` is called on the way. A graph that does not compile, or crashes
    the compiler, is a result with findings. Raises ``InputError`` for a target that cannot be
    checked, ``CheckpointError`` if the file is missing.
    """
    require_targets(targets)
    require_file(onnx)
    results: list[CheckResult] = []
    for target in targets:
        request = Request(library="tensorrt_rtx", onnx=onnx, graph=graph_record, target=target)
        found = process.run(
            request, lambda percent, target=target: on_progress(target, percent), timeout
        )
        results.append(
            CheckResult(
                target=target,
                ok=found.ok,
                seconds=round(found.seconds, 2),
                engine_bytes=found.engine_bytes,
                activation_bytes=found.activation_bytes,
                findings=found.findings,
            )
        )
    return tuple(results)


def require_compiled(part: str, graph: str, results: Sequence[CheckResult]) -> None:
    """Raise ``CheckpointError`` that names the first target for which this graph does not compile,
    and why.
    """
    for result in results:
        if not result.ok:
            raise CheckpointError(
                f"the graph {graph} of {part} does not compile for {result.target}: "
                f"{result.findings[0]}",
                details="\n".join(result.findings),
            )
