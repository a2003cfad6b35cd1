"""Closing while a submitter is blocked releases it and loses no job."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.triton.batches import OpenBatches
from tests.pipeline.triton.test_batches import WAIT_S, Named, Runner


def test_close_releases_a_blocked_submitter() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 2)
    batches.submit(Named("a", ""))
    assert runner.began.wait(WAIT_S)
    batches.submit(Named("b", ""))
    submitter = threading.Thread(target=batches.submit, args=(Named("c", ""),), daemon=True)
    submitter.start()
    submitter.join(0.1)
    assert submitter.is_alive(), "there is no space for it yet"
    left: list[Sequence[Named]] = []
    closer = threading.Thread(target=lambda: left.append(batches.close()), daemon=True)
    closer.start()
    submitter.join(WAIT_S)
    assert not submitter.is_alive()
    runner.go.set()
    closer.join(WAIT_S)
    assert [job.name for job in left[0]] == ["b", "c"]
    assert runner.batches == ["a"]


def test_close_of_idle_batches_returns_nothing() -> None:
    batches = OpenBatches(Runner(), 2)
    assert batches.close() == []
    assert not batches._thread.is_alive()
