"""Whether a tritonserver on this machine and its stages live, asked as a user of theirs would
ask.
"""

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
    """Watches the control sockets that stages open in `folder` while they are loaded."""

    def __init__(
        self,
        folder: Path,
        server_answers: Callable[[], bool],
        *,
        hang_s: float = HANG_TIMEOUT_S,
        dead_s: float = DEAD_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        """What does not answer for `hang_s` seconds hangs; a busy stage answers on its own thread.

        A stage whose process ended is reported after `dead_s` seconds.
        """
        self._folder = folder
        self._server_answers = server_answers
        self._hang_s = hang_s
        self._dead_s = dead_s
        self._clock = clock
        self._heard: dict[str, float] = {}

    def trouble(self) -> str | None:
        """A sentence about what died or hangs, after which all is forgotten; None while all is
        well.
        """
        sentence = self._ask_server()
        for path in self._sockets():
            sentence = sentence or self._ask_stage(path)
        if sentence:
            self._heard.clear()
        return sentence

    def _ask_server(self) -> str | None:
        name = "tritonserver"
        if self._server_answers():
            self._heard[name] = self._clock()
        # It does not answer while it loads its models, however long that takes.
        elif name in self._heard and self._silence(name) > self._hang_s:
            return f"{name} hangs: no answer for {self._silence(name):.0f} s"
        return None

    def _sockets(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(self._folder.iterdir())
        return []

    def _ask_stage(self, path: Path) -> str | None:
        name = path.name
        self._heard.setdefault(name, self._clock())
        try:
            send(str(path), {"action": "status"})
        except (ConnectionRefusedError, FileNotFoundError):
            return f"the stage {name} died" if self._silence(name) > self._dead_s else None
        except (OSError, ValueError):
            if self._silence(name) > self._hang_s:
                return f"the stage {name} hangs: no answer for {self._silence(name):.0f} s"
            return None
        self._heard[name] = self._clock()
        return None

    def _silence(self, name: str) -> float:
        return self._clock() - self._heard[name]
