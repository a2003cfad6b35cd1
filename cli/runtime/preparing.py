"""Prepares a model repository in a container or behind a server, and reports in lines of JSON.

``python -m cli.runtime.preparing REQUEST`` prints {"progress": text}, and at the end
{"repository": path} or {"error": text, "type": the class of `pipeline.errors`}. With a second
argument, the process id of its parent, it ends with it and has the lowest priority.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import ServerError, TritonVideoError
from pipeline.settings import StageSettings
from pipeline.system.parent import end_with

LOWEST_PRIORITY = 19
FIRST_TO_KILL = "1000"  # when memory runs out; see proc_pid_oom_score_adj(5)
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
    if settings.vae_config.load_encoder:
        found = found.with_vae_encoder()
    checkpoint = replace(found, info=found.info.model_copy(update={"name": request.name}))
    return prepare_repository(checkpoint, settings, lambda text: _report("progress", text))


def _report(key: str, text: str) -> None:
    print(json.dumps({key: text}), flush=True)


def _stay_behind(parent: int) -> None:
    """Leave CPUs and memory to the processes of the server ``parent``, and end with it."""
    end_with(parent)
    os.nice(LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_KILL, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _stay_behind(int(sys.argv[2]))
    sys.exit(main(sys.argv[1]))
