"""Prepares a model repository inside a container, and reports in lines of JSON.

``python -m cli.runtime.preparing REQUEST`` prints {"progress": text}, and at the end
{"repository": path} or {"error": text, "type": the class of `pipeline.errors`}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import ServerError, TritonVideoError
from pipeline.settings import StageSettings

OTHER_VERSION = (
    "the image is of another version of triton-video than the one that starts it; build it again"
)


@dataclass(frozen=True)
class Request:
    """What to prepare; ``settings`` is a `StageSettings` in JSON.

    ``name`` is the model's, which the folder in a hub's cache does not show.
    """

    checkpoint: str
    name: str
    settings: str

    def text(self) -> str:
        """Return the request in JSON."""
        return json.dumps(asdict(self))


def main(text: str) -> int:
    """Prepare the repository of a request; returns the exit code."""
    try:
        request = Request(**json.loads(text))
        settings = StageSettings.model_validate_json(request.settings)
    except (TypeError, ValueError):
        print(json.dumps({"error": OTHER_VERSION, "type": "ServerError"}), flush=True)
        return ServerError.exit_code
    try:
        _report("repository", str(_prepare(request, settings)))
    except (TritonVideoError, OSError) as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__}), flush=True)
        return error.exit_code if isinstance(error, TritonVideoError) else 1
    return 0


def _prepare(request: Request, settings: StageSettings) -> Path:
    from export.repository import prepare_repository

    found = Checkpoint.open(Path(request.checkpoint))
    checkpoint = replace(found, info=found.info.model_copy(update={"name": request.name}))
    return prepare_repository(checkpoint, settings, lambda text: _report("progress", text))


def _report(key: str, text: str) -> None:
    print(json.dumps({key: text}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
