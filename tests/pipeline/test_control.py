"""The side channel by which a stage is told to stop."""

from __future__ import annotations

import os
import socket

import pytest

from pipeline.control import MAX_REMEMBERED, ControlListener, JobRegistry, send
from pipeline.errors import CancelledError


def test_a_running_job_is_told_to_stop() -> None:
    registry = JobRegistry()
    with registry.running("a"):
        registry.advance("a", 1, 10)
        assert registry.status() == {"a": [1, 10]}
        assert registry.cancel("a") == [1, 10]
        with pytest.raises(CancelledError):
            registry.advance("a", 2, 10)
    assert registry.status() == {}


def test_a_cancellation_waits_for_its_job() -> None:
    registry = JobRegistry()
    assert registry.cancel("a") is None
    with registry.running("a"), pytest.raises(CancelledError, match="a was cancelled before step 0 of 10"):
        registry.advance("a", 0, 10)


def test_cancellations_of_jobs_that_never_come_are_bounded() -> None:
    registry = JobRegistry()
    for number in range(MAX_REMEMBERED + 1):
        registry.cancel(str(number))
    with registry.running("0"):
        registry.advance("0", 0, 1)  # the oldest was forgotten
    with registry.running("1"), pytest.raises(CancelledError):
        registry.advance("1", 0, 1)


def test_messages_over_the_socket() -> None:
    registry = JobRegistry()
    listener = ControlListener("stage", registry, os.getpid())
    try:
        with registry.running("a"):
            assert send(os.getpid(), "stage", {"action": "status"}) == {"jobs": {"a": [0, 0]}}
            assert send(os.getpid(), "stage", {"action": "cancel", "job_id": "a"}) == {"running": [0, 0]}
            assert send(os.getpid(), "stage", {"action": "cancel", "job_id": 7}) == {"error": "unknown message"}
    finally:
        listener.close()
    with pytest.raises(OSError, match="refused"):
        send(os.getpid(), "stage", {"action": "status"})


def test_garbage_does_not_end_the_listener() -> None:
    listener = ControlListener("stage", JobRegistry(), os.getpid())
    try:
        for garbage in (b"", b"\xff\xfe", b"[" * 5000):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"\0triton-video/{os.getpid()}/stage")
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
        assert send(os.getpid(), "stage", {"action": "status"}) == {"jobs": {}}
    finally:
        listener.close()
