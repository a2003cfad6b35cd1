"""The progress of a server's start, as lines of its log and as the stage that ``/readyz`` names."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cli.output.progress import Lines, title

logger = logging.getLogger(__name__)


class StartView(Lines):
    """Logs what `Lines` prints, and passes each stage to ``tell``."""

    def __init__(self, tell: Callable[[str], None]):
        super().__init__()
        self._tell = tell

    def note(self, text: str) -> None:
        logger.info("%s", text)

    def message(self, stage: str, text: str) -> None:
        self._tell(title(stage, text))
        super().message(stage, text)

    def step(self, stage: str, step: int, total: int) -> None:
        self._tell(f"{title(stage)} {step}/{total}")
        super().step(stage, step, total)
