"""The leader of a group of ranks: starts them, sends them requests, and restarts them when one dies
or hangs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from pipeline.ranks.messages import (
    Chunk,
    Chunks,
    Done,
    Encode,
    RankPart,
    Ready,
    Run,
    Setup,
    Step,
    Verdict,
    rank_count,
)
from pipeline.ranks.process import RankError, RankFailedError, RankLostError, RankProcess
from pipeline.ranks.tasks import Join, Outcome, RunningTasks, Task
from pipeline.ranks.wire import Arrays
from pipeline.ranks.wire import join as join_arrays
from pipeline.settings import StageSettings

logger = logging.getLogger(__name__)
WATCH_S = 1.0
POLL_S = 0.25
DEATH_S, DEATH_POLL_S = 0.5, 0.02


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which a rank counts as hung: until it is ready, then between two heartbeats,
    and within one step. ``startup`` None is that of the settings.
    """

    startup: float | None = None
    heartbeat: float = 15.0
    step: float = 900.0


class RankGroup:
    """Runs one batch of requests at a time. Failed ranks are replaced immediately, also between
    batches.
    """

    def __init__(
        self,
        settings: StageSettings,
        timeouts: Timeouts = Timeouts(),
        *,
        part: RankPart = "dit",
        first_device: int = 0,
    ):
        """Start the ranks and wait until they are ready. Raises ``RankError`` when they fail.

        Rank ``i`` uses the GPU ``first_device + i``, where there are GPUs.
        """
        self._settings = settings
        self._part: RankPart = part
        self._first_device = first_device
        self._timeouts = timeouts
        self._startup_s = (
            settings.startup_timeout_s if timeouts.startup is None else timeouts.startup
        )
        self._ranks: list[RankProcess] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.starts = 0
        self.compile_s = 0.0
        self.peak_bytes: int | None = None
        """The most memory that rank 0 used before its latest message, if it is known."""
        try:
            self._start()
            self._await_ready()
        except BaseException:
            self.close()
            raise
        # The ranks end when the thread that started them ends (see `RankProcess`), so this thread
        # lives as long as the group.
        self._watcher = threading.Thread(target=self._watch, name="rank-watcher", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> int:
        """Return the number of ranks that are ready or running a request."""
        return sum(rank.device is not None for rank in self._ranks)

    def run_batch(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run requests of one shape and return their outcomes, in the same order.

        Raises ``RankError`` if a rank fails; the failed ranks are then being replaced, and all
        requests of the batch have failed.
        """
        outcomes: dict[int, Outcome] = {}
        self.run_open_batch(
            [
                replace(task, end=partial(outcomes.__setitem__, place))
                for place, task in enumerate(tasks)
            ]
        )
        return [outcomes[place] for place in range(len(tasks))]

    def run_open_batch(self, tasks: Sequence[Task], join: Join = lambda _running: ()) -> None:
        """Run requests of one shape, and those of the same shape that ``join`` returns before a
        step. Each request ends separately (``Task.end``).

        Raises ``RankError`` if a rank fails; the failed ranks are then being replaced, and all
        requests that had not ended have ended with this error.
        """
        self._run(tasks, join)

    def measure(self, task: Task) -> list[list[list[float]]]:
        """Run one request and return the table of the step cache, by expert, branch and step.

        Raises the error of the request, or ``RankError`` if a rank fails.
        """
        outcomes: list[Outcome] = []
        leader = self._run([replace(task, end=outcomes.append)], measured=True)
        if isinstance(outcomes[0], BaseException):
            raise outcomes[0]
        return leader.ratios

    def _run(
        self, tasks: Sequence[Task], join: Join = lambda _running: (), *, measured: bool = False
    ) -> Done:
        """Run a batch until it is empty, and return the last message of rank 0."""
        running = RunningTasks(tasks, join)
        try:
            with self._lock, self._replacing_at_failure():
                self._await_ready()
                run = Run(requests=tuple(task.request for task in tasks), measured=measured)
                self._send_all(run, join_arrays([task.arrays for task in tasks]))
                return self._follow(running)
        except BaseException as error:
            running.fail(error)
            raise

    def _send_all(self, message: Run | Verdict | Encode, arrays: Arrays) -> None:
        # Rank 0 is the first: only after it has read a verdict do the others expect one.
        for rank in self._ranks:
            rank.send(message, arrays)

    def encode(self, ids: Arrays) -> Arrays:
        """Return the embeddings of token ids or pixels; the group must be of an encoder's part.

        `pipeline.ranks.encoder` names the arrays. Raises ``RankError`` if a rank fails; the failed
        ranks are then being replaced.
        """
        with self._lock, self._replacing_at_failure():
            self._await_ready()
            self._send_all(Encode(), ids)
            limit, done = time.monotonic() + self._timeouts.step, 0
            made: Arrays = {}
            while done < len(self._ranks):
                self._require_time(limit, "encode a text")
                for _, _, arrays in self._messages(POLL_S):
                    done, made = done + 1, made | arrays
            return made

    def chunks(
        self,
        arrays: Arrays,
        *,
        num_frames: int | None = None,
        size: tuple[int, int] = (0, 0),
        as_uint8: bool = False,
    ) -> Generator[Arrays]:
        """Yield the result of each run of a VAE, of which this group's part is one.

        `pipeline.ranks.vae` names the arrays. Closing the generator stops the rank before its next
        run. Raises ``RankError`` if it fails; it is then being replaced.
        """
        with self._lock, self._replacing_at_failure():
            self._await_ready()
            (rank,) = self._ranks
            rank.send(Chunks(num_frames=num_frames, size=size, as_uint8=as_uint8), arrays)
            while (chunk := self._chunk()) is not None:
                try:
                    yield chunk
                except GeneratorExit:
                    rank.send(Verdict(stop=frozenset({0})))
                    while self._chunk() is not None:
                        pass
                    raise
                rank.send(Verdict())

    def _chunk(self) -> Arrays | None:
        """Return the arrays of the next chunk, or None after the last."""
        limit = time.monotonic() + self._timeouts.step
        while True:
            self._require_time(limit, "run a chunk")
            for _, message, arrays in self._messages(POLL_S):
                return arrays if isinstance(message, Chunk) else None

    def close(self) -> None:
        """Kill every rank."""
        self._closed.set()
        self._kill()

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_S):
            # Otherwise a request is running, which monitors the ranks itself.
            if self._lock.acquire(blocking=False):
                try:
                    with self._replacing_at_failure():
                        self._messages(0)
                except RankError as error:
                    logger.warning("%s", error)
                finally:
                    self._lock.release()

    @contextlib.contextmanager
    def _replacing_at_failure(self) -> Iterator[None]:
        try:
            yield
        except RankError as error:
            cause = self._cause(error)
            were_ready = self.alive == len(self._ranks)
            self._kill()
            # The next request retries ranks that fail to start; a loop here would never end.
            if were_ready and not self._closed.is_set():
                self._start()
            if cause is error:
                raise
            raise cause from error

    def _cause(self, error: RankError) -> RankError:
        """Return ``error``, or the death of another rank if that made a collective of this one
        fail.
        """
        if not isinstance(error, RankFailedError) or len(self._ranks) == 1:
            return error
        # The sockets of a killed process close a moment before its parent can see that it was
        # killed.
        deadline = time.monotonic() + DEATH_S
        while not (deaths := list(filter(None, (rank.killed() for rank in self._ranks)))):
            if time.monotonic() > deadline:
                return error
            time.sleep(DEATH_POLL_S)
        return RankLostError(deaths[0], details=error.details)

    def _start(self) -> None:
        self.starts += 1
        self._start_limit = time.monotonic() + self._startup_s
        count = rank_count(self._settings, self._part)
        logger.info("starting %d ranks", count)
        # An anonymous file: nothing remains of it once the ranks and this process have ended,
        # however they end. Each start needs a new one: otherwise new ranks would read what dead
        # ranks wrote into the old one.
        rendezvous = os.memfd_create("triton-video-ranks")
        try:
            for number in range(count):
                rank = RankProcess(number, rendezvous)
                self._ranks.append(rank)
                device = self._first_device + number
                rank.send(
                    Setup(settings=self._settings, rank=number, device=device, part=self._part)
                )
        finally:
            os.close(rendezvous)

    def _kill(self) -> None:
        for rank in self._ranks:
            rank.kill()
        self._ranks = []

    def _await_ready(self) -> None:
        if not self._ranks:
            self._start()
        while self.alive < len(self._ranks):
            if time.monotonic() > self._start_limit:
                loading = ", ".join(f"rank {r.rank}" for r in self._ranks if r.device is None)
                raise RankLostError(
                    f"{loading}: still loading after {self._startup_s:g} s; "
                    "--startup-timeout-s allows more"
                )
            self._messages(POLL_S)

    def _follow(self, running: RunningTasks) -> Done:
        """Run the message exchange of one batch: pass each step to the tasks until every rank is
        done.
        """
        results: dict[int, Done] = {}
        limit = time.monotonic() + self._timeouts.step
        while len(results) < len(self._ranks):
            self._require_time(limit, "finish a step")
            for rank, message, arrays in self._messages(POLL_S):
                if isinstance(message, Done):
                    results[rank.rank] = message
                    running.done(message, arrays)
                    continue
                assert isinstance(message, Step)
                verdict, conditions = running.step(message, arrays)
                if verdict.joining:
                    self._send_all(verdict, conditions)
                else:
                    rank.send(verdict)
                limit = time.monotonic() + self._timeouts.step
        self.compile_s += max(done.compile_s for done in results.values())
        return results[0]

    def _messages(self, timeout: float) -> list[tuple[RankProcess, Step | Chunk | Done, Arrays]]:
        """Return the messages that arrive within ``timeout`` seconds; the list may be empty.

        Raises ``RankError`` for a failed, lost or hung rank.
        """
        found: list[tuple[RankProcess, Step | Chunk | Done, Arrays]] = []
        with selectors.DefaultSelector() as selector:
            for rank in self._ranks:
                selector.register(rank.channel, selectors.EVENT_READ, rank)
            for key, _ in selector.select(timeout):
                rank: RankProcess = key.data
                message, arrays = rank.receive()
                rank.last_message_at = time.monotonic()
                if isinstance(message, Ready):
                    rank.device = message.device
                elif isinstance(message, Step | Chunk | Done):
                    if rank.rank == 0 and isinstance(message, Step | Done):
                        self.peak_bytes = message.peak_bytes
                    found.append((rank, message, arrays))
        for rank in self._ranks:
            # A rank that loads may send nothing for long: the import of torch and the start of CUDA
            # block its other threads. The startup timeout limits it.
            silence = 0.0 if rank.device is None else time.monotonic() - rank.last_message_at
            # A rank with unread messages is not silent: this process itself may have been delayed.
            if silence > self._timeouts.heartbeat and not rank.channel.waiting():
                raise RankLostError(
                    f"rank {rank.rank} has given no sign of life for {silence:.0f} s"
                )
        return found

    def _require_time(self, limit: float, what: str) -> None:
        if time.monotonic() > limit:
            raise RankLostError(f"the ranks did not {what} in time")
