"""The backend of a command: prepares, starts and calls Triton. Tests replace it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from cli.runtime.base import LastingServer, Server, import_client
from pipeline.errors import InputError, OutputError
from pipeline.system.forks import VARIABLE

if TYPE_CHECKING:
    from cli.params.groups import StartGroup
    from cli.params.stage_group import StageGroup
    from cli.runtime.fork_server import KeptForkServer
    from export.soundness import Check
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.client import Progress, Video
    from pipeline.families import Inputs, SamplingParams
    from pipeline.settings import Flavour, StageSettings


class Client(Protocol):
    """A connection to a Triton; `pipeline.client.VideoClient` documents its errors."""

    def require_ready(self) -> None: ...

    def generate(
        self, params: SamplingParams, *, inputs: Inputs | None = None, return_frames: bool = False
    ) -> Iterator[Progress | Video]: ...


class Backend:
    """Starts Triton on this machine and connects to it.

    Its methods import what they need: the server's and the client's packages take long to import.
    """

    in_container: ClassVar[bool] = False
    """Whether the stages run in a container."""
    _forks: KeptForkServer | None = None
    _check: Check | None = None

    def require_flavour(self, flavour: Flavour) -> None:
        """Raise ``InputError`` with what this machine can do if it cannot run ``flavour``."""
        from cli.run.flavours import require_flavour

        require_flavour(flavour)

    def share_imports(self, checkpoint: Checkpoint) -> None:
        """Begin to import torch, once for all processes of this run; `close` ends them.

        Not on a machine with GPUs, where each process needs an environment for its own device.
        """
        from cli.runtime.engine import has_gpus
        from cli.runtime.fork_server import KeptForkServer

        if not has_gpus():
            self._forks = KeptForkServer(checkpoint)

    def close(self) -> None:
        """End what `share_imports` has started."""
        if self._forks:
            self._forks.stop()

    def prepare(
        self, checkpoint: Checkpoint, settings: StageSettings, on_progress: Callable[[str], None]
    ) -> Path:
        """Return the rendered model repository; the first run for a checkpoint exports it.

        After `share_imports` the check of the checkpoint may go on while `server` starts. Raises
        ``OutputError`` if the cache folder cannot be written.
        """
        from export.repository import prepare_repository

        with cache_errors():
            if self._forks is None:
                return prepare_repository(checkpoint, settings, on_progress)
            return prepare_repository(
                checkpoint, settings, on_progress,
                start=self._forks.ready(), postpone=partial(setattr, self, "_check"),
            )  # fmt: skip

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
        """Return a server that has loaded its models once entered.

        Entry raises ``ServerError``, or ``CheckpointError`` of a check that `prepare` postponed.
        """
        return self._checked_server(repository, on_progress)

    @contextlib.contextmanager
    def _checked_server(
        self, repository: Path, on_progress: Callable[[str], None]
    ) -> Iterator[Server]:
        from cli.runtime.embedded import EmbeddedServer

        import_client()
        variables = {VARIABLE: str(self._forks.path)} if self._forks else None
        server = EmbeddedServer(repository, on_progress=on_progress, variables=variables)
        with ExitStack() as stack:
            try:
                stack.enter_context(server)
            finally:
                # No rank has started if it fails: that is then the reason.
                if self._check:
                    self._check.finish()
            yield server

    def lasting_server(
        self, repository: Path, on_progress: Callable[[str], None], hang_timeout_s: float
    ) -> LastingServer:
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
