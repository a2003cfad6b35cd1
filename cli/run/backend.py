"""The backend of a command: prepares, starts and calls Triton. Tests replace it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from cli.runtime.base import LastingServer, Server, import_client
from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from cli.params.groups import StartGroup
    from cli.params.stage_group import StageGroup
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.client import Progress, Video
    from pipeline.families import SamplingParams
    from pipeline.settings import Flavour, StageSettings


class Client(Protocol):
    """A connection to a Triton; `pipeline.client.VideoClient` documents its errors."""

    def require_ready(self) -> None: ...

    def generate(
        self, params: SamplingParams, *, image: bytes | None = None, return_frames: bool = False
    ) -> Iterator[Progress | Video]: ...


class Backend:
    """Starts Triton on this machine and connects to it.

    Its methods import what they need: the server's and the client's packages take long to import.
    """

    in_container: ClassVar[bool] = False
    """Whether the stages run in a container."""

    def require_flavour(self, flavour: Flavour) -> None:
        """Raise ``InputError`` with what this machine can do if it cannot run ``flavour``."""
        from cli.run.flavours import require_flavour

        require_flavour(flavour)

    def prepare(
        self, checkpoint: Checkpoint, settings: StageSettings, on_progress: Callable[[str], None]
    ) -> Path:
        """Return the rendered model repository; the first run for a checkpoint exports it.

        An export imports torch. Raises ``OutputError`` if the cache folder cannot be written.
        """
        from export.repository import prepare_repository

        with cache_errors():
            return prepare_repository(checkpoint, settings, on_progress)

    def has_graphs(self, checkpoint: Checkpoint, settings: StageSettings) -> bool:
        """Return whether the cache has all graphs that ``settings`` need.

        Raises ``OutputError`` if the cache folder cannot be written.
        """
        from export.repository import has_graphs

        with cache_errors():
            return has_graphs(checkpoint, settings)

    def server(
        self, repository: Path, on_progress: Callable[[str], None]
    ) -> AbstractContextManager[Server]:
        from cli.runtime.embedded import EmbeddedServer

        import_client()
        return EmbeddedServer(repository, on_progress=on_progress)

    def lasting_server(
        self, repository: Path, on_progress: Callable[[str], None], hang_timeout_s: float
    ) -> AbstractContextManager[LastingServer]:
        """Return a server that is restarted when it dies or hangs for ``hang_timeout_s``."""
        from cli.runtime.supervisor import SupervisedServer

        return SupervisedServer(repository, on_progress=on_progress, hang_timeout_s=hang_timeout_s)

    def script(self, start: StartGroup, stages: StageGroup) -> str:  # noqa: ARG002 - for containers
        """Return the container commands as a shell script; raises ``InputError`` without one."""
        raise InputError("dry_run", "requires --runtime docker or podman")

    def client(
        self, url: str, hang_timeout_s: float, token: str | None
    ) -> AbstractContextManager[Client]:
        """Return a client; ``token`` is what a Triton on TCP requires to cancel a job."""
        from pipeline.client import VideoClient

        return VideoClient(url, hang_timeout_s, token)


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Raise an ``OSError`` of the block as ``OutputError``: the cache is full or not writable."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the model repository cannot be prepared: {error}; "
            "set TRITON_VIDEO_CACHE to a writable folder"
        ) from error
