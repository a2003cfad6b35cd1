"""The process that makes one engine: ``python -m export.tensorrt.worker PARENT``, with a request on
standard input.

Standard output has one JSON object per line: ``{"percent": 42}`` while it works, ``{"findings":
{...}}`` at the end.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from export.tensorrt.engine import compile_engine
from export.tensorrt.findings import Request
from pipeline.system.parent import end_with


def main(parent: int) -> None:
    """Compile the request. The process ends with its parent, however that ends: compiling can take
    an hour of every core.
    """
    end_with(parent)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as events:
        os.dup2(2, 1)  # native code prints to standard output

        def send(event: dict[str, Any]) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        request = Request.model_validate_json(sys.stdin.buffer.read())
        trt = importlib.import_module(request.library)
        findings = compile_engine(trt, request, lambda percent: send({"percent": percent}))
        send({"findings": findings.model_dump(mode="json")})


if __name__ == "__main__":
    main(int(sys.argv[1]))
