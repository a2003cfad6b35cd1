"""A server that is restarted when it dies or hangs.

Hung stages are killed here; `proxy.tritons` reloads dead ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.runtime.base import JobPause
from cli.runtime.embedded import EmbeddedServer
from cli.runtime.hangs import HangWatch
from cli.runtime.kept_server import KeptServer, ignore, settings_in
from cli.runtime.stubs import holding_stages
from cli.runtime.warm_up import warm_up
from pipeline.errors import ServerError
from pipeline.families.timeouts import HANG_TIMEOUT_S

logger = logging.getLogger(__name__)

CHECK_S = 0.5
MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0


@dataclass
class Switch:
    """A restart with another repository; ``former`` is the one before, once it has begun."""

    repository: Path
    pause: JobPause
    former: Path | None = None


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
        self._switch: Switch | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def __enter__(self) -> Self:
        self._server.__enter__()
        try:
            self._observe()
            warm_up(self._server.grpc_url, self._server.repository)
        except BaseException:
            self._forget()
            self._server.stop()
            raise
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

    def switch(self, repository: Path, pause: JobPause) -> None:
        """Restart the server with ``repository`` in a pause between two jobs.

        Returns at once. If the repository does not load, the server returns to its own.
        """
        self._switch = Switch(repository, pause)

    def _watch(self) -> None:
        pause = MIN_PAUSE_S
        while not self._stopping.wait(CHECK_S):
            reason = self._server.died() or self._hung()
            if reason:
                logger.error("%s; restarting it", reason)
            elif not self._switches():
                pause = MIN_PAUSE_S
                continue
            self._forget()
            try:
                self._server.restart()
            except ServerError as error:
                logger.error("%s; next try in %g s", error, pause)
                self._return()
                self._stopping.wait(pause)
                pause = min(2 * pause, MAX_PAUSE_S)
            else:
                self._observe()
                self._end_switch()

    def _switches(self) -> bool:
        """Return whether to restart the server now, with the repository to switch to."""
        switch = self._switch
        if switch is None or switch.former or not switch.pause.begin():
            return False
        switch.former, self._server.repository = self._server.repository, switch.repository
        return True

    def _return(self) -> None:
        """Return to the former repository, if the one that was switched to does not load."""
        if self._switch and self._switch.former and not self._stopping.is_set():
            logger.error("Triton returns to the models in torch")
            self._server.repository = self._switch.former
            self._switch.pause.end()
            self._switch = None

    def _end_switch(self) -> None:
        if self._switch and self._switch.former:
            logger.info("Triton runs the exported graphs from now on")
            self._switch.pause.end()
            self._switch = None

    def _hung(self) -> str | None:
        """Return why the server has to be restarted, if it hangs."""
        return self._observe().check()

    def _observe(self) -> HangWatch:
        """Return what watches the server. Call it once the server is ready: a stage may die at
        once.
        """
        if self._hangs is None:
            self._hangs = HangWatch(self._server, self._hang_timeout_s, self._holding)
        return self._hangs

    def _forget(self) -> None:
        if self._hangs:
            self._hangs.close()
            self._hangs = None
