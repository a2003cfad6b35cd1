"""The lines of a log, as text or JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from cli.redaction import without_credentials


class TextLines(logging.Formatter):
    """Formats an event as one line of text and its traceback, without passwords in URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


class JsonLines(logging.Formatter):
    """Formats an event as a JSON object: time (UTC), level, logger, message and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            entry["traceback"] = record.exc_text
        return json.dumps({key: without_credentials(text) for key, text in entry.items()})


def error_line(sentence: str, details: str = "") -> str:
    """Return an error that ends a command as a line of the JSON log."""
    record = logging.LogRecord("cli", logging.ERROR, __file__, 0, "%s", (sentence,), None)
    record.exc_text = details
    return JsonLines().format(record)
