"""The log of the lasting commands."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.logs import logging_to_stderr

logger = logging.getLogger("proxy.somewhere")


def test_text_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", quiet=False, verbose=False):
        logger.info("a job was %s", "stopped")
        logger.debug("unseen")
        logging.getLogger("sqlalchemy").info("unseen")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO proxy.somewhere: a job was stopped")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("json", quiet=False, verbose=True):
        logger.debug("a job was %s", "stopped")
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("a fault")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == (
        "debug",
        "proxy.somewhere",
        "a job was stopped",
    )
    assert first["time"].endswith("+00:00")
    assert second["traceback"].endswith("ValueError: why")


def test_quiet_logs_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", quiet=True, verbose=False):
        logger.info("unseen")
        logger.warning("seen")
    assert capsys.readouterr().err.count("\n") == 1


PROGRAM = """
import logging, sys, time
from cli.logs import logging_to_stderr
with logging_to_stderr(sys.argv[1], quiet=False, verbose=False):
    logger = logging.getLogger("proxy.somewhere")
    for number in range(30_000):
        logger.info("line %d", number)
    print("logged", flush=True)
    sys.stdin.read()
    logger.info("the last")
print("a word for the user", file=sys.stderr, flush=True)
print("ended", flush=True)
"""


@pytest.mark.parametrize("style", ["text", "json"])
def test_unread_log_blocks_nothing(style: str) -> None:
    """Logging never waits, and neither does the end of the process, nor what it writes after
    that.
    """
    with program(style) as process:
        assert process.stdout.readline() == b"logged\n"
        begin = time.monotonic()
        process.stdin.close()
        assert process.stdout.readline() == b"ended\n"
        assert process.wait(10) == 0
        assert time.monotonic() - begin < 8


@pytest.mark.parametrize("style", ["text", "json"])
def test_dropped_lines_are_counted(style: str) -> None:
    with program(style) as process:
        assert process.stdout.readline() == b"logged\n"
        reading = threading.Thread(target=lambda: (time.sleep(1), process.stdin.close()))
        reading.start()
        lines = process.stderr.read().decode().splitlines()
        reading.join()
        assert process.wait(10) == 0
    assert lines.pop() == "a word for the user"
    assert "the last" in lines[-1]
    dropped = [
        int(word) for line in lines for word in re.findall(r"(\d+) log lines were dropped", line)
    ]
    assert sum(dropped) + sum("line " in line for line in lines) == 30_000
    assert sum(dropped) > 1000
    if style == "json":
        assert all(json.loads(line)["message"] for line in lines)


@contextmanager
def program(style: str) -> Iterator[Any]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, style], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()
