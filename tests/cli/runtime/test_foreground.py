"""``triton-video triton``: a tritonserver that is this process's, and goes with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runtime.ports import Ports, free_ports

ROOT = Path(__file__).resolve().parents[3]


class Program:
    def __init__(self, repository: Path, ports: Ports, *flags: str):
        words = [sys.executable, "-m", "cli", "triton", "--model-repository", str(repository), *flags]
        words += [word for name, port in ports._asdict().items() for word in (f"--{name}-port", str(port))]
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        self.ports = ports

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports.http}/v2/health/ready").close()
                return
            except urllib.error.URLError:
                time.sleep(0.05)
        pytest.fail("it did not get ready")


@pytest.fixture
def program(repository: Path, temp_root: Path) -> Iterator[Program]:
    started = Program(repository, free_ports(), "--until-stdin-ends")
    yield started
    started.process.kill()
    started.process.wait()
    for stream in (started.process.stdin, started.process.stderr):
        stream.close()


def test_a_signal_ends_it_and_all_that_it_made(program, temp_root):
    program.wait_until_ready()
    assert len(list(temp_root.iterdir())) == 1
    program.process.send_signal(signal.SIGTERM)
    _, log = program.process.communicate(timeout=20)
    assert program.process.returncode == 128 + signal.SIGTERM
    assert "Started GRPCInferenceService" in log
    assert list(temp_root.iterdir()) == []


def test_it_ends_with_its_standard_input(program, temp_root):
    program.wait_until_ready()
    program.process.stdin.close()
    assert program.process.wait(20) == 128 + signal.SIGTERM
    assert list(temp_root.iterdir()) == []


def test_a_server_that_fails_is_told(program, repository, temp_root):
    program.wait_until_ready()
    other = Program(repository, program.ports)
    _, log = other.process.communicate(timeout=30)
    assert other.process.returncode == 4
    assert log.splitlines()[-1].startswith("triton-video: tritonserver ended with exit code")
