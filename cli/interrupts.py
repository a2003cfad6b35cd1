"""Ctrl-C, SIGTERM and SIGHUP end a run the same way: an exception that unwinds it, and 128 +
signal as exit code.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The run was told to stop; raised wherever the main thread is."""

    def __init__(self, number: int):
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal into ``Interrupted`` and ignore further ones, which would interrupt
    the cleaning up.
    """
    # A signal that is ignored from the start (nohup, a shell's background job) stays ignored.
    watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, _raise) for number in watched}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature is Python's
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
