"""Forks of a process with shared imports behave like processes of separate interpreters."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.system.forks import VARIABLE, forking, start_of
from pipeline.system.own_modules import FOLDER, command
from pipeline.system.starting import Process, Start, start_module

PROGRAM = "tests.pipeline.system.fork_program"
MODULE = "tests.pipeline.system.fork_module"
LATE = "colorsys"  # nothing else imports it
WAIT_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A fork server that imports `LATE` once the file ``go`` exists."""
    path = tmp_path / "forks"
    with subprocess.Popen(
        command("pipeline.system.fork_server", str(path), "json", MODULE, LATE),
        cwd=FOLDER,
        env={**os.environ, "TEST_OF_FORKS_GO": str(tmp_path / "go")},
    ) as process:
        eventually(path.exists)
        yield process
        process.kill()


@pytest.fixture
def start(server: subprocess.Popen[bytes], tmp_path: Path) -> Start:
    (tmp_path / "go").touch()
    return forking(tmp_path / "forks")


@pytest.fixture(params=["interpreter", "fork"])
def each_start(request: pytest.FixtureRequest) -> Start:
    return start_module if request.param == "interpreter" else request.getfixturevalue("start")


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pid_of(process: Process) -> int:
    """Return the id of a process once it runs."""
    eventually(lambda: process.pid)
    assert process.pid is not None
    return process.pid


def output(start: Start, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """Return the exit code of the test's program and what it wrote to its two outputs."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(PROGRAM, *arguments, stdout=out.fileno(), stderr=err.fileno(), **options)
        code = process.wait(WAIT_S)
        for file in (out, err):
            file.seek(0)
        return code, out.read(), err.read()


def test_a_module_gets_its_arguments_and_environment(
    each_start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_OF_FORKS", "1")
    code, text, _ = output(each_start, "report")
    seen = json.loads(text)
    assert (code, seen.pop("shared")) == (0, each_start is not start_module)
    assert seen == {"parent": True, "variable": "1", "input": ""}


def test_a_module_inherits_descriptors(each_start: Start) -> None:
    reader, writer = os.pipe()
    try:
        code, _, _ = output(each_start, "descriptor", fds=(writer,))
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as read:
        assert (code, read.read()) == (0, b"here")


def test_errors_end_a_module_as_they_end_an_interpreter(each_start: Start) -> None:
    code, _, errors = output(each_start, "fail")
    assert (code, errors.splitlines()[-1]) == (1, "ValueError: no")
    assert output(each_start, "exit") == (1, "", "ended\n")


@pytest.mark.parametrize("what", ["sleep", "stop"])
def test_a_process_is_killed_in_any_state(each_start: Start, what: str) -> None:
    process = each_start(PROGRAM, what)
    pid = pid_of(process)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(WAIT_S) == -signal.SIGKILL
    assert not psutil.pid_exists(pid)


def test_a_process_killed_by_another_is_noticed(each_start: Start) -> None:
    process = each_start(PROGRAM, "sleep")
    os.kill(pid_of(process), signal.SIGKILL)
    assert process.wait(WAIT_S) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL


def test_a_request_that_waits_can_be_dropped(start: Start) -> None:
    dropped = start(PROGRAM, "sleep")
    dropped.kill()
    assert dropped.wait(WAIT_S) == -signal.SIGKILL
    assert output(start, "report")[0] == 0


def test_forks_end_with_their_server(start: Start, server: subprocess.Popen[bytes]) -> None:
    process = start(PROGRAM, "stop")
    pid = pid_of(process)
    server.kill()
    assert process.wait(WAIT_S) == -signal.SIGKILL
    eventually(lambda: not psutil.pid_exists(pid))
    server.wait(WAIT_S)
    with pytest.raises(OSError, match="refused"):
        start(PROGRAM, "report")


@pytest.mark.usefixtures("start")
def test_a_fork_ends_with_its_leader(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from pipeline.system.forks import forking\n"
        f"fork = forking(Path({str(tmp_path / 'forks')!r}))({PROGRAM!r}, 'stop')\n"
        "while not fork.pid: time.sleep(0.01)\n"
        "print(fork.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=FOLDER, stdout=subprocess.PIPE
    ) as leader:
        assert leader.stdout is not None
        pid = int(leader.stdout.readline())
        leader.kill()
    eventually(lambda: not psutil.pid_exists(pid))
    assert server.poll() is None


@pytest.mark.usefixtures("server")
def test_the_first_turn_does_not_wait_for_all_imports(tmp_path: Path) -> None:
    start = forking(tmp_path / "forks")
    with tempfile.TemporaryFile("w+") as out:
        # In this order: only their turns let the second one start before the first.
        later = start(PROGRAM, "report", stdout=out.fileno())
        first = start(PROGRAM, "report", stdout=out.fileno(), turn="first")
        (tmp_path / "go").touch()
        assert first.wait(WAIT_S) == later.wait(WAIT_S) == 0
        out.seek(0)
        assert sorted(json.loads(line)["shared"] for line in out) == [False, True]


def test_nothing_starts_before_a_check_has_succeeded(start: Start) -> None:
    check = start(PROGRAM, "sleep", turn="check")
    later = start(PROGRAM, "report")
    pid_of(check)
    with pytest.raises(subprocess.TimeoutExpired):
        later.wait(0.2)
    assert later.pid is None
    assert output(start, "report", turn="first")[0] == 0
    for process in (later, check):
        process.kill()
        process.wait(WAIT_S)


def test_nothing_starts_after_a_check_has_failed(
    start: Start, server: subprocess.Popen[bytes]
) -> None:
    check = start(PROGRAM, "fail", turn="check", stderr=2)
    later = start(PROGRAM, "report")
    assert check.wait(WAIT_S) == 1
    assert later.wait(WAIT_S) == -signal.SIGKILL
    assert later.pid is None
    assert server.wait(WAIT_S) == 1


def test_what_waits_starts_once_a_check_has_succeeded(start: Start) -> None:
    check = start(PROGRAM, "report", turn="check", stdout=2)
    assert output(start, "report")[0] == 0
    assert check.wait(WAIT_S) == 0


def test_a_client_that_says_nothing_is_forgotten(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "forks"))
    assert output(start, "report")[0] == 0


def test_the_variable_selects_the_fork_server(tmp_path: Path) -> None:
    assert start_of({}) is start_module
    with pytest.raises(OSError, match="No such file"):
        start_of({VARIABLE: str(tmp_path / "none")})(PROGRAM, "report")
