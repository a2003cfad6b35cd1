"""A real tritonserver on this machine for as long as a block runs, with nothing left of it afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cli.runtime.distribution import find_distribution
from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.kept_server import KeptServer
from cli.runtime.ports import HOST, Ports, listens
from cli.runtime.server_command import arguments, checkout, environment
from cli.runtime.server_log import ServerLog

OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's own variable
CACHE_BYTES = 64 << 20  # of the response cache


class EmbeddedServer(KeptServer):
    """The tritonserver of a package (or of NVIDIA's image, inside it) with this interpreter's packages."""

    def _launch(self, models: int, ports: Ports) -> Launch:
        return launch(self._repository, models, ports)

    def _listens(self, process: KeptProcess, log: ServerLog, ports: Ports) -> bool:  # noqa: ARG002 - the log may lag
        # Asking the ports would not do: a program that took one of them might answer instead of the server.
        return process.pid is not None and listens(process.pid, ports)


def launch(
    repository: Path,
    models: int,
    ports: Ports,
    *,
    host: str = HOST,
    inherited: Mapping[str, str] = os.environ,
) -> Launch:
    """How a tritonserver of this machine is run for a repository of ``models`` models, open at ``host`` only.

    Raises ServerError, which says what to install.
    """
    distribution = find_distribution()
    name = f"triton-video-{os.getpid()}-{os.urandom(4).hex()}"
    work_dir = Path(tempfile.gettempdir(), name).resolve()
    argv = arguments(
        distribution, repository=repository, backends=work_dir / "backends", ports=ports, host=host,
        shm_prefix=f"{name}-", models=models, cache_bytes=CACHE_BYTES, traces_to=inherited.get(OTEL_ENDPOINT),
    )  # fmt: skip
    links = {f"backends/python/{path.name}": str(path) for path in distribution.backend_files}
    links |= {f"backends/{path.name}": str(path) for path in distribution.more_backends}
    # A folder with nothing but libpython: its own may hold libraries that must not shadow the system's.
    links[f"lib/{distribution.libpython.name}"] = str(distribution.libpython.resolve())
    env = environment(distribution, libpython_folder=work_dir / "lib", inherited=inherited)
    return Launch(argv, env, str(checkout() or "/"), str(work_dir), links, f"{name}-")
