"""One rank as its leader sees it: a process, a channel to it, and when it was last heard of."""

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
    Done,
    Encode,
    Failed,
    FromRank,
    Ready,
    Run,
    Setup,
    Step,
    Verdict,
)
from pipeline.ranks.wire import Arrays, Channel
from pipeline.system.own_modules import command
from pipeline.system.telemetry import offline

# Longer than any message takes from a live rank: one that was stopped in mid-message must not hold
# its leader.
RECEIVE_TIMEOUT_S = 30.0


class RankError(TritonVideoError):
    """A rank did not do its part of a request, and all ranks are replaced."""


class RankFailedError(RankError, GenerationError):
    """A rank met an error while it worked on the request: the same request may fail again."""


class RankLostError(RankError, ServerError):
    """A rank died or hung. The request may be fine: another attempt may succeed."""


class RankProcess:
    """A child that ends with its parent, however that ends."""

    def __init__(self, rank: int, rendezvous: int) -> None:
        """The rank inherits the descriptor ``rendezvous`` under the same number."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                command("pipeline.ranks.program", str(theirs.fileno()), str(os.getpid())),
                pass_fds=[theirs.fileno(), rendezvous],
                stdin=subprocess.DEVNULL,
                # What a rank prints belongs to the server's log.
                stdout=2,
                env=offline(os.environ),
            )
        ours.settimeout(RECEIVE_TIMEOUT_S)
        self.rank = rank
        self.channel = Channel(ours, FromRank)
        # None until its first message: Python itself may take seconds to start on a busy machine.
        self.last_message_at: float | None = None
        self.device: str | None = None

    def send(
        self,
        message: Setup | Run | Encode | Verdict,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        try:
            self.channel.send(message, arrays)
        except OSError:
            raise RankLostError(f"rank {self.rank} {self._ending()}") from None

    def receive(self) -> tuple[Ready | Alive | Step | Done, Arrays]:
        """The next message and its arrays.

        Raises ``RankFailedError`` with the rank's own error, ``RankLostError`` with how it ended.
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
        """How the process was killed, in words; ``None`` where it runs or ended by itself."""
        code = self.process.poll()
        return None if code is None or code >= 0 else f"rank {self.rank} {self._ending()}"

    def kill(self) -> None:
        """At once, also when it is stopped; returns when it is gone."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def _ending(self) -> str:
        """How the process ended, in words. It has closed its channel, so that it has ended or is
        about to.
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
