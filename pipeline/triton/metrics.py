"""The metrics of our stages in Triton's ``/metrics``.

Runs only inside a python stub: ``triton_python_backend_utils`` exists nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import triton_python_backend_utils as pb

from pipeline.ranks.group import RankGroup
from pipeline.triton.metric_names import (
    BATCHED,
    BATCHES,
    COMPILE_SECONDS,
    ENCODINGS,
    OF_DIT,
    OF_ENCODERS,
    RANK_STARTS,
    RANKS_ALIVE,
    REUSED_ENCODINGS,
    REUSED_STEPS,
    STEP_SECONDS,
    STEPS,
    Metric,
)

WATCH_S = 1.0


def _families(metrics: Iterable[Metric]) -> dict[Metric, pb.MetricFamily]:
    kinds = {"counter": pb.MetricFamily.COUNTER, "gauge": pb.MetricFamily.GAUGE}
    return {
        each: pb.MetricFamily(each.name, each.description, kinds[each.kind]) for each in metrics
    }


class EncoderMetrics:
    """Reports the metrics of the stage ``name``, an encoder of texts or images."""

    def __init__(self, name: str):
        self._families = _families(OF_ENCODERS)
        self._metrics = {
            each: family.Metric(labels={"model": name}) for each, family in self._families.items()
        }

    def count(self, reused: bool) -> None:
        self._metrics[ENCODINGS].increment(1)
        self._metrics[REUSED_ENCODINGS].increment(int(reused))


class DitMetrics:
    """Reports the metrics of the stage ``dit``. A thread reads those of the ranks every second."""

    def __init__(self, ranks: RankGroup):
        self._ranks = ranks
        self._families = _families(OF_DIT)
        self._metrics = {each: family.Metric(labels={}) for each, family in self._families.items()}
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="rank-figures", daemon=True)
        self._watcher.start()

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that the leading rank has used in its latest step, if it is known."""
        return self._ranks.peak_bytes

    def step_clock(self) -> Callable[[], None]:
        """Return a callback that counts and times the steps of one request.

        Call it before the first step, between two steps and after the last one.
        """
        last: float | None = None

        def tick() -> None:
            nonlocal last
            now = time.monotonic()
            if last is not None:
                self._metrics[STEPS].increment(1)
                self._metrics[STEP_SECONDS].increment(now - last)
            last = now

        return tick

    def count_reused_step(self) -> None:
        self._metrics[REUSED_STEPS].increment(1)

    def count_batch(self, size: int) -> None:
        self._metrics[BATCHES].increment(1)
        self.count_joined(size)

    def count_joined(self, size: int) -> None:
        self._metrics[BATCHED].increment(size)

    def close(self) -> None:
        self._closed.set()
        self._watcher.join()

    def _watch(self) -> None:
        ranks = self._ranks
        told, compiled, closed = 0, 0.0, False
        while not closed:
            self._metrics[RANKS_ALIVE].set(ranks.alive)
            self._metrics[RANK_STARTS].increment(ranks.starts - told)
            told = ranks.starts
            spent = ranks.compile_s
            self._metrics[COMPILE_SECONDS].increment(spent - compiled)
            compiled = spent
            closed = self._closed.wait(WATCH_S)
