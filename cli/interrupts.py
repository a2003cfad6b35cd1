"""Ctrl-C, SIGTERM and SIGHUP raise an exception, and the exit code is 128 + the signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; raised in the main thread."""

    def __init__(self, number: int):
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``Interrupted`` at the first signal and ignore further ones, which could interrupt the
    clean-up.

    If a library replaces it with another error, as pydantic's compiled code does, that error
    becomes ``Interrupted`` again.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python's signature
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        received.append(number)
        raise Interrupted(number)

    # A signal that is already ignored (nohup, a background job of a shell) stays ignored.
    watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    except Exception as error:
        if received:
            raise Interrupted(received[0]) from error
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """End the block without an error when SIGTERM interrupts it: a server's way to stop."""
    try:
        yield
    except Interrupted as stop:
        if stop.exit_code != 128 + signal.SIGTERM:
            raise
