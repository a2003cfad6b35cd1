"""A server that is restarted when it dies or hangs.

Hung stages are killed here; `proxy.tritons` reloads dead ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.runtime.embedded import EmbeddedServer
from cli.runtime.hangs import HangWatch
from cli.runtime.kept_server import KeptServer, ignore, settings_in
from cli.runtime.stubs import holding_stages
from pipeline.errors import ServerError
from pipeline.families.timeouts import HANG_TIMEOUT_S

logger = logging.getLogger(__name__)

CHECK_S = 0.5
MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0


class SupervisedServer:
    """A server as ``make`` returns it, restarted at the same sockets while the block runs.

    The default of ``make`` is `EmbeddedServer`.
    """

    def __init__(
        self,
        repository: Path,
        *,
        on_progress: Callable[[str], None] = ignore,
        make: Callable[..., KeptServer] | None = None,
        hang_timeout_s: float = HANG_TIMEOUT_S,
    ):
        """A server or stage that does not answer for ``hang_timeout_s`` is killed and replaced."""
        self._stopping = threading.Event()
        self._server = (make or EmbeddedServer)(
            repository, on_progress=on_progress, give_up=self._stopping.is_set
        )
        self._hang_timeout_s = hang_timeout_s
        self._holding = holding_stages(settings_in(repository))
        self._hangs: HangWatch | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        # Returns soon: a restart in progress gives up, and a check for hangs is short.
        self._thread.join()
        self._forget()
        self._server.stop()

    @property
    def grpc_url(self) -> str:
        """``unix:PATH``, a target for Triton's gRPC clients."""
        return self._server.grpc_url

    @property
    def metrics_socket(self) -> Path:
        """The unix socket that answers ``GET /metrics`` over HTTP."""
        return self._server.sockets.metrics

    @property
    def pid(self) -> int:
        """The process id of the running tritonserver."""
        return self._server.pid

    def died(self) -> str | None:
        """Return None: a server that died is restarted."""
        return None

    def _watch(self) -> None:
        pause = MIN_PAUSE_S
        while not self._stopping.wait(CHECK_S):
            reason = self._server.died() or self._hung()
            if reason is None:
                pause = MIN_PAUSE_S
                continue
            logger.error("%s; restarting it", reason)
            self._forget()
            try:
                self._server.restart()
            except ServerError as error:
                logger.error("%s; next try in %g s", error, pause)
                self._stopping.wait(pause)
                pause = min(2 * pause, MAX_PAUSE_S)

    def _hung(self) -> str | None:
        """Return why the server has to be restarted, if it hangs."""
        if self._hangs is None:
            self._hangs = HangWatch(self._server, self._hang_timeout_s, self._holding)
        return self._hangs.check()

    def _forget(self) -> None:
        if self._hangs:
            self._hangs.close()
            self._hangs = None
