"""The request for a compilation and its result, as plain data that is passed between processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from export.records import GraphRecord
from pipeline.sessions.engine_record import Library

MOST_FINDINGS = 20

# Source location, call and number of a message in NVIDIA's code: none of it helps the reader.
_SOURCE = re.compile(r"\s*\bIn \w+ at \S+:\d+\)?|\[?\b\w+\.(?:cpp|h):\d+(?:: \w+\])?:? ?")
_CALL = re.compile(
    r"^(?:\w+(?:::\w+)+: )?(?:Error Code \d+: )?(?:[A-Z][\w ]* )?\((?=\S)|^(?:\w+(?:::\w+)+: )"
)
_NOISE = (
    # A machine without a GPU cannot help it, and the log repeats it after every other error.
    "cudaError",
    # Our configs declare INT64.
    "has Int64 binding",
    # The parser's frame around an error that `OnnxParser.get_error` gives with its node.
    "--- Begin node ---",
    "--- End node ---",
    "While parsing node number",
)
_REASONS = {
    "UNSUPPORTED_NODE": "TensorRT has no such operator, or not with these attributes",
    "UNSUPPORTED_NODE_ATTR": "TensorRT does not support an attribute of it",
    "UNSUPPORTED_NODE_DATATYPE": "TensorRT does not support its data type",
    "UNSUPPORTED_NODE_DYNAMIC": "TensorRT does not support it with free dimensions",
    "UNSUPPORTED_NODE_SHAPE": "TensorRT does not support its shape",
}


class Request(BaseModel):
    """One engine. ``target`` is a compute capability, or None for the GPU of this machine.

    The engine is written to ``plan``, or only measured where that is None. ``tf32`` lets fp32
    convolutions and products round their inputs to TF32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Library
    onnx: Path
    graph: GraphRecord
    target: str | None
    plan: Path | None = None
    timing_cache: Path | None = None
    weight_streaming: bool = False
    tf32: bool = False


class Findings(BaseModel):
    """The messages of parser and builder. There is an engine only if ``ok``; warnings are findings
    too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    ok: bool
    seconds: float
    engine_bytes: int = 0
    activation_bytes: int | None = None
    findings: tuple[str, ...] = ()


def of_parser(error: Any) -> str:
    """Return an ``IParserError`` as "node (operator): reason"."""
    reason = of_log(error.desc()) or ""
    # The condition that failed, in C++: "false" or `creator && "Plugin not found, ..."`.
    if not reason or reason == "false" or "Plugin not found" in reason:
        # Not `name`, which is a method in TensorRT 10.13 to 10.14.
        code = str(error.code()).rpartition(".")[2]
        reason = _REASONS.get(code, "TensorRT has no such operator")
    if "Failed to import initializer" in reason:
        weight = reason.rpartition(": ")[2]
        return (
            f"the weight {weight} cannot be read: the file beside the graph that holds it is "
            "missing or cut short"
        )
    node, operator = error.node_name(), error.node_operator()
    return (
        f"{node or 'a node without a name'} ({operator}): {reason.removeprefix(f'{node}: ')}"
        if operator
        else reason
    )


def of_log(message: str) -> str | None:
    """Return a message of the log as one line without source locations and error numbers, or None
    if it has no meaning here.
    """
    lines = [
        line
        for line in message.splitlines()
        if line.strip() and not any(noise in line for noise in _NOISE)
    ]
    # The parser puts a line before the builder's reason; only the reason matters.
    if len(lines) > 1 and lines[0].startswith("Invalid Node"):
        lines = lines[1:]
    cleaned = _CALL.sub("", _SOURCE.sub("", " ".join(lines))).strip()
    return cleaned or None
