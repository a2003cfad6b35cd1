"""The errors that users see, each with its exit code on the command line.

TritonVideoError           1  any other error
├── InputError             2  a parameter is invalid; ``field`` names it
├── CheckpointError        3  the model folder is missing, broken or of an unknown family
├── ServerError            4  a server did not start, was lost or cannot be reached
├── OutputError            5  the result cannot be written
├── GenerationError        6  the server accepted the request and failed while it made the video
└── CancelledError       130  the request was cancelled
"""

from __future__ import annotations

from typing import ClassVar

INTERRUPTED = "interrupted: "
"""The prefix of a stage's ``ServerError``. Clients use it to rule out a ``GenerationError``."""


class TritonVideoError(Exception):
    """An error whose ``str`` is one readable sentence. ``details``, such as a log, are shown on
    demand.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, details: str | None = None):
        super().__init__(message)
        self.details = details


class InputError(TritonVideoError):
    """An invalid parameter; the message names the valid values."""

    exit_code = 2

    def __init__(self, field: str, message: str, *, details: str | None = None):
        super().__init__(f"{field}: {message}", details=details)
        self.field = field


class CheckpointError(TritonVideoError):
    """An unusable model folder; the message names the invalid file."""

    exit_code = 3


class ServerError(TritonVideoError):
    """A server cannot be started or reached: Triton, the job database or the video store."""

    exit_code = 4


class OutputError(TritonVideoError):
    """The result cannot be written to the requested path."""

    exit_code = 5


class GenerationError(TritonVideoError):
    """The server accepted the request and failed while it made the video."""

    exit_code = 6


class CancelledError(TritonVideoError):
    """The request was cancelled before it finished."""

    exit_code = 130
