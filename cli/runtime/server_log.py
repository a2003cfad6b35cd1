"""Reads the log of a starting tritonserver (2.51): its progress, and why it failed."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

_LOADING = re.compile(r'"loading: (.+):\d+"$')
_LOADED = re.compile(r"\"successfully loaded '(.+)'\"$")
_STATUS = (
    r"(?:(?:Internal|Invalid argument|Not found|Unavailable|Unsupported|Unknown|Already exists): )?"
)
_FAILURES = (
    re.compile(rf"\"failed to load '(?P<model>[^']+)' version \d+: {_STATUS}(?P<reason>.*)\"$"),
    re.compile(rf"\"failed to load model '(?P<model>[^']+)': {_STATUS}(?P<reason>.*)\"$"),
    re.compile(r"\"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)\"$"),
    re.compile(r'"Invalid argument: (?P<reason>ensemble (?P<model>\S+) contains models that .*)"$'),
    # The server hangs after these two: it waits for a stub that has ended before it could answer.
    re.compile(r"Failed to preinitialize Python stub: (?P<reason>.*)$"),
    re.compile(
        r"triton_python_backend_stub: (?P<reason>error while loading shared libraries: .*)$"
    ),
)
_PARSE_ERROR = re.compile(
    r"^\[libprotobuf ERROR .*Error parsing text-format inference\.ModelConfig: (.*)$"
)
_ERROR = re.compile(r'^(?:error: (?:creating server: )?|E\d{4} .*?\] )"?(.*?)"?$')
# Printed on every machine without a GPU; and a summary of more precise lines.
_NOISE = ("CudaDriverHelper has not been initialized", "Internal - failed to load all models")


class ServerLog:
    """Reads a server's log file as it grows."""

    def __init__(self, path: Path, models: int):
        self.path = path
        self.failure: str | None = None
        self.last_error: str | None = None
        self._models = models
        self._loading: list[str] = []
        self._loaded = 0
        self._parse_error: str | None = None
        self._offset = 0

    @property
    def progress(self) -> str | None:
        """Such as "loading dit (2/5)": the model that has been loading longest, and its number."""
        if not self._loading:
            return None
        return f"loading {self._loading[0]} ({min(self._loaded + 1, self._models)}/{self._models})"

    @property
    def waiting(self) -> str | None:
        """Such as "still loading dit, text_encoder (3 of 5 are loaded)"; None if nothing loads."""
        if not self._loading:
            return None
        names = ", ".join(sorted(self._loading))
        return f"still loading {names} ({self._loaded} of {self._models} are loaded)"

    def read(self) -> None:
        """Read the complete lines that were added since the last call."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._offset)
            text, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(text) + len(newline)
            for line in text.decode(errors="replace").splitlines():
                self._take(line)

    def text(self) -> str:
        """Return the log so far, without the server's tables."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(line for line in lines if line and not line.startswith(("+--", "| ")))
        return ""

    def _take(self, line: str) -> None:
        if match := _LOADING.search(line):
            self._loading.append(match[1])
        elif match := _LOADED.search(line):
            self._loaded += 1
            self._loading = [model for model in self._loading if model != match[1]]
        elif match := _PARSE_ERROR.search(line):
            self._parse_error = match[1]
        else:
            self._take_error(line)

    def _take_error(self, line: str) -> None:
        for pattern in _FAILURES:
            if self.failure is None and (match := pattern.search(line)):
                reason = _sentence(match["reason"])
                if reason.startswith("failed to read text proto") and self._parse_error:
                    reason = f"config.pbtxt:{self._parse_error}"
                if "is not healthy" in reason:
                    reason = "its python process ended while it was loading"
                model = match.groupdict().get("model")
                self.failure = f"model '{model}': {reason}" if model else reason
        if (match := _ERROR.search(line)) and not any(noise in line for noise in _NOISE):
            self.last_error = _sentence(match[1])


def _sentence(message: str) -> str:
    """Return a logged message without escapes, line breaks and the Python traceback at its end."""
    with contextlib.suppress(ValueError):
        message = json.loads(f'"{message}"')
    return " ".join(message.partition("\n\nAt:\n")[0].split())
