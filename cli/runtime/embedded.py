"""A tritonserver on this machine, which leaves nothing behind when it stops."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.runtime.distribution import find_distribution
from cli.runtime.endpoints import Endpoint
from cli.runtime.engine import count_gpus
from cli.runtime.keeper import Launch
from cli.runtime.kept_server import LINK, KeptServer
from cli.runtime.places import sockets, work_dir
from cli.runtime.server_command import arguments, environment
from pipeline.system.own_modules import FOLDER
from pipeline.triton.control import FOLDER_VARIABLE
from pipeline.triton.shared_memory import PREFIX_VARIABLE

OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's own variable
CACHE_BYTES = 64 << 20  # of the response cache


class EmbeddedServer(KeptServer):
    """The tritonserver of nvidia-pytriton, or of NVIDIA's image, with this interpreter."""

    def __init__(
        self, repository: Path, *, variables: Mapping[str, str] | None = None, **options: Any
    ):
        """``variables`` are for its models."""
        super().__init__(repository, **options)
        self._variables = variables

    def _launch(self, models: int) -> Launch:
        return launch(
            self._name, self._repository, models, sockets(self._name), variables=self._variables
        )


def launch(
    name: str,
    repository: Path,
    models: int,
    endpoint: Endpoint,
    *,
    variables: Mapping[str, str] | None = None,
    inherited: Mapping[str, str] = os.environ,
) -> Launch:
    """Return the launch of a tritonserver for a repository of ``models`` models.

    ``name`` is the run's (`cli.runtime.places`); ``variables`` are for its models. Raises
    ServerError, with the packages to install.
    """
    distribution = find_distribution()
    folder = work_dir(name)
    argv = arguments(
        distribution,
        repository=repository, loaded_from=folder / LINK,
        backends=folder / "backends", endpoint=endpoint,
        shm_prefix=f"{name}-", models=models, cache_bytes=CACHE_BYTES, gpus=count_gpus(),
        traces_to=inherited.get(OTEL_ENDPOINT),
    )  # fmt: skip
    links = {f"backends/python/{path.name}": str(path) for path in distribution.backend_files}
    links |= {f"backends/{path.name}": str(path) for path in distribution.more_backends}
    # A folder with only libpython: its original folder may have libraries that must not shadow the
    # system's.
    links[f"lib/{distribution.libpython.name}"] = str(distribution.libpython.resolve())
    # The python backend starts its stubs by a shell command without quotes, and the repository's
    # path may contain a space.
    links[LINK] = str(repository.resolve())
    env = environment(
        distribution, repository=repository, libpython_folder=folder / "lib", inherited=inherited
    )
    env |= {
        FOLDER_VARIABLE: str(folder / "control"),
        PREFIX_VARIABLE: f"{name}-",
        **(variables or {}),
    }
    # Libraries leave files there, which are removed with the run.
    env["TMPDIR"] = str(folder / "tmp")
    folders = ["control", "sockets", "tmp"]
    # The working directory is first on the sys.path of the stubs.
    return Launch(argv, env, str(FOLDER), str(folder), links, folders, f"{name}-")
