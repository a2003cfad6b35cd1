"""``triton-video triton``: a tritonserver in the foreground, which ends with its command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.lib.ports import free_ports

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[3]


class Program:
    def __init__(self, repository: Path, ports: dict[str, int], *flags: str):
        words = [
            sys.executable,
            "-m",
            "cli",
            "triton",
            "--model-repository",
            str(repository),
            *flags,
        ]
        words += [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        self.ports = ports
        self.ready_url = f"http://127.0.0.1:{ports['http']}/v2/health/ready"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.ready_url).close()
                return
            except urllib.error.URLError:
                time.sleep(0.05)
        pytest.fail("it did not get ready")


@pytest.fixture
def program(repository: Path, temp_root: Path) -> Iterator[Program]:
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    started = Program(repository, ports, "--until-stdin-ends")
    yield started
    started.process.kill()
    started.process.wait()
    for stream in (started.process.stdin, started.process.stderr):
        stream.close()


def test_signal_ends_triton_and_removes_its_files(program, temp_root):
    program.wait_until_ready()
    assert len(list(temp_root.iterdir())) == 1
    program.process.send_signal(signal.SIGTERM)
    _, log = program.process.communicate(timeout=20)
    assert program.process.returncode == 128 + signal.SIGTERM
    assert "Started GRPCInferenceService" in log
    assert list(temp_root.iterdir()) == []


def test_triton_ends_with_standard_input(program, temp_root):
    program.wait_until_ready()
    program.process.stdin.close()
    assert program.process.wait(20) == 128 + signal.SIGTERM
    assert list(temp_root.iterdir()) == []


def test_failed_server_is_reported(program, repository, temp_root):
    program.wait_until_ready()
    other = Program(repository, program.ports)
    _, log = other.process.communicate(timeout=30)
    assert other.process.returncode == 4
    assert log.splitlines()[-1].startswith("triton-video: tritonserver ended with exit code")


@pytest.mark.parametrize("victim", ["command", "keeper"])
def test_killed_command_leaves_nothing(program, temp_root, nothing_left_of, victim):
    program.wait_until_ready()
    (work_dir,) = temp_root.iterdir()
    (keeper,) = psutil.Process(program.process.pid).children()
    (server,) = keeper.children()
    psutil.Process(program.process.pid if victim == "command" else keeper.pid).kill()
    program.process.wait(10)
    nothing_left_of(server.pid, work_dir, seconds=5)


def test_dead_stage_restarts_the_server(repository, program, temp_root):
    program.wait_until_ready()
    (keeper,) = psutil.Process(program.process.pid).children()
    (server,) = keeper.children()
    control = next(temp_root.iterdir()) / "control" / "echo"
    # The model of this repository has no control socket: one that refuses stands for a stage that
    # died.
    with socket.socket(socket.AF_UNIX) as stage:
        stage.bind(str(control))
    assert server.wait(20) is None or not server.is_running()
    program.wait_until_ready()
    assert keeper.children() != [server]
