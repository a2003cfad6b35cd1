"""The process of an export behind a server, on programs that stand for it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import psutil
import pytest

from cli.run import background_export
from cli.run.background_export import BackgroundExport
from cli.runtime import preparing
from cli.runtime.preparing import Request
from tests.waiting import wait_for

REQUEST = Request("checkpoint", "name", "{}")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Sets the program that runs in place of the export."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(background_export, "REPORT_EVERY_S", 0)

    def run(script: str) -> None:
        monkeypatch.setattr(
            background_export, "command", lambda *words: [sys.executable, "-c", script]
        )

    return run


def test_finished_export_hands_its_repository_over(program, caplog):
    program("""print('{"progress": "vae: reading"}\\nnoise\\n{"repository": "/a/b"}')""")
    done: list[Path] = []
    with BackgroundExport(REQUEST, done.append):
        wait_for(lambda: done)
    assert done == [Path("/a/b")]
    assert caplog.messages[1:] == [
        "exporting in the background: vae: reading",
        "the graphs are exported; Triton restarts with them when no job runs",
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("""print('{"error": "the disk is full"}'); raise SystemExit(4)""", "the disk is full"),
        ("raise ValueError('a bug')", "ValueError: a bug"),
        ("import os; os.kill(os.getpid(), 9)", "the export ended with exit code -9"),
    ],
)
def test_failed_export_is_logged_with_its_reason(program, caplog, script, reason):
    program(script)
    with BackgroundExport(REQUEST, lambda repository: pytest.fail("it has none")):
        wait_for(lambda: any(r.levelno == logging.ERROR for r in caplog.records))
    assert caplog.messages[-1] == (
        f"the graphs were not exported, and torch keeps running encoders and VAE: {reason}"
    )


def test_exit_kills_the_export_without_an_error(program, caplog):
    program("import time; time.sleep(60)")
    with BackgroundExport(REQUEST, lambda repository: None) as export:
        pid = export._process.pid
    assert not psutil.pid_exists(pid)
    assert len(caplog.messages) == 1


def test_export_leaves_cpu_and_memory_to_the_server(monkeypatch):
    child = os.fork()
    if child == 0:
        try:
            preparing._stay_behind(os.getppid())
            score = Path("/proc/self/oom_score_adj").read_text()
            os._exit(0 if (os.nice(0), score) == (19, "1000\n") else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
