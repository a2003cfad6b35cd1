"""The choice of the backend, by the runtime that Triton is started in."""

from __future__ import annotations

import shutil

from cli.params.groups import StartGroup
from cli.run.backend import Backend
from cli.runtime import distribution
from cli.runtime.engine import find_engine


def choose_backend(params: StartGroup) -> Backend:
    """Return the backend for ``params.runtime``. Raises ``ServerError`` if it is not installed."""
    runtime = params.runtime
    if runtime == "auto" and not distribution.is_there():
        runtime = next((name for name in ("docker", "podman") if shutil.which(name)), runtime)
    if runtime == "docker" or runtime == "podman":
        # Here: it imports the client's packages, which a command without a container needs later.
        from cli.run.container_backend import ContainerBackend

        return ContainerBackend(find_engine(runtime), params.image)
    return Backend()
