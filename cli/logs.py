"""The log of `serve` and `worker`: one line per event on standard error, as text or JSON."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from cli.log_lines import JsonLines, TextLines
from cli.log_writer import LineWriter

LOGGERS = ("cli", "pipeline", "proxy")  # shown from INFO on; others from WARNING on
MAX_LINES = 10_000  # waiting to be written
FLUSH_S = 2.0


class QueuedLines(logging.Handler):
    """Passes lines to a thread, so that logging never blocks; counts lines that do not fit."""

    def __init__(self, formatter: logging.Formatter, lines: queue.Queue[str | None]):
        super().__init__()
        self.setFormatter(formatter)
        self._lines = lines
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        # logging holds the handler's lock here.
        try:
            if self._dropped:
                self._lines.put_nowait(self.format(_notice(self._dropped)))
                self._dropped = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as logging does: no request fails by its log
            self.handleError(record)


@contextmanager
def logging_to_stderr(
    style: Literal["text", "json"], *, quiet: bool, verbose: bool
) -> Iterator[None]:
    """Send the log of this process to standard error while the block runs.

    At its end the waiting lines are written for at most ``FLUSH_S`` seconds. If standard error is
    not read, it is then replaced: the process could otherwise block on its last message.
    """
    plain = TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")
    lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
    handler = QueuedLines(JsonLines() if style == "json" else plain, lines)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(
            logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
        )
    writer = LineWriter(lines)
    writer.start()
    logging.captureWarnings(True)
    former, threading.excepthook = threading.excepthook, _log_fault
    try:
        yield
    finally:
        threading.excepthook = former
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        writer.finish(FLUSH_S)


def _log_fault(fault: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread."""
    if fault.exc_value is not None:
        name = fault.thread.name if fault.thread else "?"
        logging.getLogger("cli").error("the thread %s failed", name, exc_info=fault.exc_value)


def _notice(dropped: int) -> logging.LogRecord:
    text = "%d log lines were dropped: standard error is read too slowly"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (dropped,), None)
