"""Detects that a tritonserver of this machine, or one of its stubs, hangs; kills hung stubs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterable
from typing import Protocol

from cli.runtime.stubs import STOPPED, Losses, Named, state, stubs
from pipeline.client import StageFault, VideoClient
from pipeline.errors import ServerError

logger = logging.getLogger(__name__)

MAX_PAUSE_S = 5.0


class Watched(Protocol):
    """A running server."""

    @property
    def pid(self) -> int: ...

    @property
    def grpc_url(self) -> str: ...


class HangWatch:
    """Watches one server from when it is ready until it ends. For one thread.

    A stub hangs when it does not answer the ``control`` model, or the kernel reports that it is
    stopped. A busy stub still answers, from a thread.
    """

    def __init__(self, server: Watched, hang_timeout_s: float, holding: frozenset[str]):
        """``holding`` are the server's stages whose death needs a restart
        (`cli.runtime.stubs.holding_stages`).
        """
        self._pid = server.pid
        self._losses = Losses(holding)
        self._losses.of(self._pid)
        self._hang_timeout_s = hang_timeout_s
        self._client = VideoClient(server.grpc_url)
        self._silent_since: dict[Named, float] = {}
        self._check_at = 0.0

    def close(self) -> None:
        self._client.close()

    def check(self) -> str | None:
        """Kill each stub that has hung for ``hang_timeout_s``.

        Returns why the whole server has to be restarted, or None. Takes up to ten seconds if
        something hangs. Called again soon, it looks only for stubs that ended.
        """
        if lost := self._losses.of(self._pid):
            return lost
        if time.monotonic() < self._check_at:
            return None
        hung = self._hung(self._silent())
        self._check_at = time.monotonic() + min(MAX_PAUSE_S, self._hang_timeout_s / 4)
        for name, pid in hung:
            if pid == self._pid:
                return f"tritonserver has not answered for {self._hang_timeout_s:g} s"
            if name in self._losses.stages:
                return f"the stage {name} has not answered for {self._hang_timeout_s:g} s"
            logger.error(
                "the stage %s has not answered for %g s; killing it", name, self._hang_timeout_s
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return None

    def _silent(self) -> set[Named]:
        """Return the stubs that do not answer now, or the server."""
        if not self._client.live():
            return {("tritonserver", self._pid)}
        # While a stage is reloaded there may be two stubs, each with a separate time.
        found = set(stubs(self._pid))
        silent = {(stage, pid) for stage, pid in found if state(pid) == STOPPED}
        # Other errors are not hangs, and are reported by the requests that fail.
        with contextlib.suppress(ServerError):
            stages = self._client.stages()
            silent |= {(s, pid) for s, pid in found if stages.get(s) is StageFault.SILENT}
        return silent

    def _hung(self, silent: Iterable[Named]) -> set[Named]:
        """Return those of ``silent`` that have not answered for too long."""
        now = time.monotonic()
        self._silent_since = {each: self._silent_since.get(each, now) for each in silent}
        longest = now - self._hang_timeout_s
        return {each for each, since in self._silent_since.items() if since <= longest}
