"""What a compilation is asked for and what comes back, as plain data that crosses from process
to process.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from export.records import GraphRecord
from pipeline.sessions.engine_record import Library

MOST_FINDINGS = 20

# Where in NVIDIA's sources a message was made, by which call, under which number: nothing of it
# helps the reader.
_SOURCE = re.compile(r"\s*\bIn \w+ at \S+:\d+\)?|\[?\b\w+\.(?:cpp|h):\d+(?:: \w+\])?:? ?")
_CALL = re.compile(
    r"^(?:\w+(?:::\w+)+: )?(?:Error Code \d+: )?(?:[A-Z][\w ]* )?\((?=\S)|^(?:\w+(?:::\w+)+: )"
)
_NOISE = (
    # The one thing a machine without a GPU cannot give, and the log tells it after every other
    # error.
    "cudaError",
    # INT64 is what our configs declare.
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
    """One engine. ``target`` is a compute capability, or ``None`` for the GPU of this machine.

    The engine is written to ``plan``, or only weighed where that is ``None``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Library
    onnx: Path
    graph: GraphRecord
    target: str | None
    plan: Path | None = None
    timing_cache: Path | None = None
    weight_streaming: bool = False


class Findings(BaseModel):
    """What parser and builder said. An engine there is only where ``ok``; warnings are findings
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
    """An ``IParserError`` as "node (operator): what is wrong"."""
    reason = of_log(error.desc()) or ""
    # The condition that failed, in C++: "false" or `creator && "Plugin not found, ..."`.
    if not reason or reason == "false" or "Plugin not found" in reason:
        reason = _REASONS.get(error.code().name, "TensorRT has no such operator")
    if "Failed to import initializer" in reason:
        weight = reason.rpartition(": ")[2]
        return f"the weight {weight} cannot be read: the file beside the graph that holds it is missing or cut short"
    node, operator = error.node_name(), error.node_operator()
    return (
        f"{node or 'a node without a name'} ({operator}): {reason.removeprefix(f'{node}: ')}"
        if operator
        else reason
    )


def of_log(message: str) -> str | None:
    """A message of the log as one line without sources and error numbers; ``None`` for one that
    means nothing here.
    """
    lines = [
        line
        for line in message.splitlines()
        if line.strip() and not any(noise in line for noise in _NOISE)
    ]
    # The parser heads the builder's reason with a line of its own: the reason is what is wanted.
    if len(lines) > 1 and lines[0].startswith("Invalid Node"):
        lines = lines[1:]
    cleaned = _CALL.sub("", _SOURCE.sub("", " ".join(lines))).strip()
    return cleaned or None
