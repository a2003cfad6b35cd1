"""Watches whether a tritonserver on this machine and its stages answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.families.timeouts import HANG_TIMEOUT_S
from pipeline.triton.control import send

# Longer than tritonserver takes to end by itself after a stage that failed to load.
DEAD_S = 8.0


class StageWatch:
    """Watches the control sockets that loaded stages open in ``folder``."""

    def __init__(
        self,
        folder: Path,
        server_answers: Callable[[], bool],
        *,
        hang_s: float = HANG_TIMEOUT_S,
        dead_s: float = DEAD_S,
        lost: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """A stage that does not answer for ``hang_s`` hangs; a busy stage answers from a thread.

        A stage whose process ended is reported after ``dead_s`` seconds. While the server answers,
        ``lost`` returns a sentence on stages that must be reported at once, or None.
        """
        self._folder = folder
        self._server_answers = server_answers
        self._hang_s = hang_s
        self._dead_s = dead_s
        self._lost = lost
        self._clock = clock
        self._last_answer: dict[str, float] = {}

    def trouble(self) -> str | None:
        """Return what died or hangs, as a sentence, and forget all answers; None if all is well."""
        sentence = self._ask_server()
        for path in self._sockets():
            sentence = sentence or self._ask_stage(path)
        if sentence:
            self._last_answer.clear()
        return sentence

    def _ask_server(self) -> str | None:
        name = "tritonserver"
        if self._server_answers():
            self._last_answer[name] = self._clock()
            return self._lost()
        # It does not answer while it loads its models, however long that takes.
        if name in self._last_answer and self._silent_s(name) > self._hang_s:
            return f"{name} hangs: no answer for {self._silent_s(name):.0f} s"
        return None

    def _sockets(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(self._folder.iterdir())
        return []

    def _ask_stage(self, path: Path) -> str | None:
        name = path.name
        self._last_answer.setdefault(name, self._clock())
        try:
            send(str(path), {"action": "status"})
        except (ConnectionRefusedError, FileNotFoundError):
            return f"the stage {name} died" if self._silent_s(name) > self._dead_s else None
        except (OSError, ValueError):
            if self._silent_s(name) > self._hang_s:
                return f"the stage {name} hangs: no answer for {self._silent_s(name):.0f} s"
            return None
        self._last_answer[name] = self._clock()
        return None

    def _silent_s(self, name: str) -> float:
        return self._clock() - self._last_answer[name]
