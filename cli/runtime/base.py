"""What a command needs of a Triton that it starts, whatever runs it."""

from __future__ import annotations

import contextlib
import importlib
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Server(Protocol):
    """A Triton started for this run."""

    @property
    def grpc_url(self) -> str: ...

    def died(self) -> str | None:
        """Return why the server ended, as a sentence; None while it runs."""
        ...


class JobPause(Protocol):
    """Holds new jobs back from `begin` to `end` (`proxy.pause.Pause`)."""

    def begin(self) -> bool: ...

    def end(self) -> None: ...


class LastingServer(Server, AbstractContextManager["LastingServer"], Protocol):
    """A Triton that runs during its block, and is restarted when it dies.

    Its addresses are known before.
    """

    @property
    def metrics_socket(self) -> Path:
        """The unix socket that answers ``GET /metrics`` over HTTP."""
        ...

    def switch(self, repository: Path, pause: JobPause) -> None:
        """Restart the server with ``repository`` in a pause between two jobs.

        Returns at once. If the repository does not load, the server returns to its own.
        """
        ...


def import_client() -> None:
    """Import the client's packages in a thread, while the server starts.

    They take about half as long to import as the server takes to start. A package that is missing
    is reported when the client is used.
    """

    def importing() -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("pipeline.client")

    threading.Thread(target=importing).start()
