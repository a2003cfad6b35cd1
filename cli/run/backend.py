"""The parts that commands are put together from, imported when they are needed and replaceable
in tests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cli.runtime.base import LastingServer, Server, import_client
from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from cli.params.groups import ModelParams
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.client import Progress, Video
    from pipeline.families import SamplingParams
    from pipeline.settings import StageSettings


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
