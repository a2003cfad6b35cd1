"""The log of the lasting commands: a line an event on standard error, for people or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

from pipeline.redaction import without_credentials

OWN = ("cli", "pipeline", "proxy", "uvicorn")  # whose notes are shown; of others warnings only


class TextLines(logging.Formatter):
    """One line an event, and the traceback where there is one; without the passwords of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object an event: time (UTC), level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: without_credentials(text) for key, text in entry.items()})


def set_up_logging(style: Literal["text", "json"], *, quiet: bool, verbose: bool) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler()
    plain = TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else plain)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
