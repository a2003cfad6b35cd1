"""Work runs one piece at a time in order, and what has not begun fails when the stage stops."""

from __future__ import annotations

import threading
from typing import Any

from pipeline.errors import ServerError
from pipeline.triton.in_order import InOrder

WAIT_S = 10


class Stream:
    """A stream that records how it ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error = error
        self.ended.set()
        return True


def test_submit_returns_at_once_and_work_runs_in_order() -> None:
    work, go, seen = InOrder(), threading.Event(), list[str]()
    first, second = Stream(), Stream()

    def slow() -> None:
        assert go.wait(WAIT_S)
        seen.append("first")

    work.submit(first, slow)
    work.submit(second, lambda: seen.append("second"))
    assert not first.ended.is_set()
    go.set()
    assert second.ended.wait(WAIT_S)
    assert seen == ["first", "second"]
    assert (first.error, second.error) == (None, None)
    work.close()


def test_an_error_ends_its_stream_and_the_next_work_runs() -> None:
    work, failed, after = InOrder(), Stream(), Stream()

    def fail() -> None:
        raise ValueError("bad")

    work.submit(failed, fail)
    work.submit(after, lambda: None)
    assert after.ended.wait(WAIT_S)
    assert isinstance(failed.error, ValueError)
    work.close()


def test_close_lets_running_work_end_and_fails_what_has_not_begun() -> None:
    work, began, go = InOrder(), threading.Event(), threading.Event()
    running, waiting = Stream(), Stream()

    def slow() -> None:
        began.set()
        assert go.wait(WAIT_S)

    work.submit(running, slow)
    work.submit(waiting, lambda: None)
    assert began.wait(WAIT_S)
    closing = threading.Thread(target=work.close)
    closing.start()
    assert waiting.ended.wait(WAIT_S)
    assert not running.ended.is_set()
    go.set()
    closing.join(WAIT_S)
    assert running.ended.is_set()
    assert running.error is None
    assert isinstance(waiting.error, ServerError)
