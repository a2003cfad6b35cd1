"""The parts that commands are put together from, imported when they are needed and replaceable
in tests.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from cli.params.groups import ModelParams, StartParams
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.client import Progress, Video
    from pipeline.families import SamplingParams
    from pipeline.settings import StageSettings


class Server(Protocol):
    """A Triton started for this run."""

    @property
    def grpc_url(self) -> str: ...

    def died(self) -> str | None:
        """A sentence on why the server is gone, or None while it runs."""
        ...


class LastingServer(Server, Protocol):
    """A Triton that is started again when it dies."""

    @property
    def metrics_socket(self) -> Path:
        """The unix socket that answers ``GET /metrics`` in HTTP."""
        ...


class Client(Protocol):
    """A connection to a Triton; `pipeline.client.VideoClient` says what it raises."""

    def require_ready(self) -> None: ...

    def generate(
        self, params: SamplingParams, *, picture: bytes | None = None, return_frames: bool = False
    ) -> Iterator[Progress | Video]: ...


class Backend:
    """The real parts."""

    def prepare(
        self, checkpoint: Checkpoint, settings: StageSettings, on_progress: Callable[[str], None]
    ) -> Path:
        """The rendered model repository; the first time for a checkpoint it is exported, which
        loads torch.

        Raises ``OutputError`` where the cache folder cannot be written.
        """
        from export.repository import prepare_repository

        with cache_errors():
            return prepare_repository(checkpoint, settings, on_progress)

    def server(
        self, repository: Path, on_progress: Callable[[str], None]
    ) -> AbstractContextManager[Server]:
        from cli.runtime.embedded import EmbeddedServer

        # The client's packages take as long to import as half a start of the server: both at once.
        import_client()
        return EmbeddedServer(repository, on_progress=on_progress)

    def lasting_server(
        self, repository: Path, on_progress: Callable[[str], None], hang_timeout_s: float
    ) -> AbstractContextManager[LastingServer]:
        """A server that is started again when it dies, or answers nothing for
        ``hang_timeout_s``.
        """
        from cli.runtime.supervisor import SupervisedServer

        return SupervisedServer(repository, on_progress=on_progress, hang_timeout_s=hang_timeout_s)

    def script(self, params: ModelParams) -> str:
        """The commands of a container runtime, for a shell. Raises ``InputError`` where there is
        no container.
        """
        raise InputError(
            "dry_run",
            f"shows what a container runtime runs, and {params.runtime} has none; use it with "
            "--runtime docker or podman",
        )

    def client(
        self, url: str, hang_timeout_s: float, token: str | None
    ) -> AbstractContextManager[Client]:
        """``token`` is what a Triton on TCP requires to cancel a job."""
        from pipeline.client import VideoClient

        return VideoClient(url, hang_timeout_s, token)


def choose_backend(params: StartParams) -> Backend:
    """The parts for the runtime that was asked for. Raises ``ServerError`` where it is not
    there.
    """
    from cli.runtime.distribution import is_there

    runtime = params.runtime
    if runtime == "auto" and not is_there():
        runtime = next((name for name in ("docker", "podman") if shutil.which(name)), runtime)
    if runtime == "docker" or runtime == "podman":
        from cli.run.container_backend import ContainerBackend
        from cli.runtime.engine import find_engine

        return ContainerBackend(find_engine(runtime), params.image)
    return Backend()


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """An ``OSError`` inside, of a cache folder that is full or not writable, becomes an
    ``OutputError``.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the model repository cannot be prepared: {error}; set TRITON_VIDEO_CACHE to a writable folder"
        ) from error


def import_client() -> None:
    """Begins to import what the client takes, which is told to be missing when it is needed."""

    def importing() -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("pipeline.client")

    threading.Thread(target=importing).start()
