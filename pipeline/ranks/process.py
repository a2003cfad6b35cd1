"""One rank from its leader's point of view: a process, a channel to it, and the time of its last
message.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping

import numpy as np

from pipeline.errors import GenerationError, ServerError, TritonVideoError
from pipeline.ranks.messages import (
    Alive,
    Chunk,
    Done,
    Failed,
    FromRank,
    MessageToRank,
    Ready,
    Step,
)
from pipeline.ranks.wire import Arrays, Channel
from pipeline.system.forks import start_of

# This is longer than a live rank needs for any message: a rank that is stopped in the middle of a
# message must not block its leader.
RECEIVE_TIMEOUT_S = 30.0


class RankError(TritonVideoError):
    """A rank failed to do its part of a request. All ranks are replaced."""


class RankFailedError(RankError, GenerationError):
    """A rank failed with an error while it ran the request. The same request may fail again."""


class RankLostError(RankError, ServerError):
    """A rank died or hung. The request may be valid: another attempt may succeed."""


class RankProcess:
    """A child process that ends when its parent ends, whatever the cause."""

    def __init__(self, rank: int, rendezvous: int) -> None:
        """Start the rank, which inherits the descriptor ``rendezvous`` of an anonymous file.

        Raises ``RankLostError`` if that is impossible.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # Its output goes to this process's standard error: it belongs in the server's log.
            try:
                self.process = start_of(os.environ)(
                    "pipeline.ranks.program", fds=(theirs.fileno(), rendezvous)
                )
            except OSError as error:
                ours.close()
                raise RankLostError(f"rank {rank} cannot be started: {error}") from None
        ours.settimeout(RECEIVE_TIMEOUT_S)
        self.rank = rank
        self.channel = Channel(ours, FromRank)
        self.last_message_at = 0.0
        # None until the rank is ready.
        self.device: str | None = None

    def send(
        self,
        message: MessageToRank,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        try:
            self.channel.send(message, arrays)
        except OSError:
            raise RankLostError(f"rank {self.rank} {self._ending()}") from None

    def receive(self) -> tuple[Ready | Alive | Step | Chunk | Done, Arrays]:
        """Return the next message and its arrays.

        Raises ``RankFailedError`` with the rank's own error, or ``RankLostError`` with the way it
        ended.
        """
        try:
            message, arrays = self.channel.receive()
        except EOFError:
            raise RankLostError(f"rank {self.rank} {self._ending()}") from None
        except TimeoutError:
            raise RankLostError(f"rank {self.rank} stopped in the middle of a message") from None
        if isinstance(message, Failed):
            raise RankFailedError(f"rank {self.rank}: {message.sentence}", details=message.details)
        return message, arrays

    def killed(self) -> str | None:
        """Return how the process was killed, in words, or ``None`` if it runs or exited by
        itself.
        """
        code = self.process.poll()
        return None if code is None or code >= 0 else f"rank {self.rank} {self._ending()}"

    def kill(self) -> None:
        """Kill the process, even if it is stopped, and wait until it has ended."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def _ending(self) -> str:
        """Return how the process ended, in words.

        It has closed its channel, so it has ended or is about to.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        if code is None:
            return "closed its connection"
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"
