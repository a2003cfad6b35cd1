"""The side channel cancels the jobs of a stage."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import CancelledError
from pipeline.triton.control import (
    FOLDER_VARIABLE,
    MAX_REMEMBERED,
    ControlListener,
    JobRegistry,
    send,
    stage_address,
)


def test_a_running_job_is_cancelled_at_its_next_step() -> None:
    registry = JobRegistry()
    with registry.running("a"):
        registry.advance("a", 1, 10)
        assert registry.status() == {"a": [1, 10]}
        assert registry.cancel("a") == [1, 10]
        with pytest.raises(CancelledError):
            registry.advance("a", 2, 10)
    assert registry.status() == {}


def test_a_cancellation_that_arrives_first_cancels_its_job() -> None:
    registry = JobRegistry()
    assert registry.cancel("a") is None
    with (
        registry.running("a"),
        pytest.raises(CancelledError, match="a was cancelled before step 0 of 10"),
    ):
        registry.advance("a", 0, 10)


def test_cancellations_of_unknown_jobs_are_bounded() -> None:
    registry = JobRegistry()
    for number in range(MAX_REMEMBERED + 1):
        registry.cancel(str(number))
    with registry.running("0"):
        registry.advance("0", 0, 1)  # the oldest was forgotten
    with registry.running("1"), pytest.raises(CancelledError):
        registry.advance("1", 0, 1)


@pytest.fixture(params=["stock", "folder"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a stage, with ``FOLDER_VARIABLE`` unset or set."""
    environment = {FOLDER_VARIABLE: str(tmp_path)} if request.param == "folder" else {}
    return stage_address("stage", os.getpid(), environment)


def test_status_and_cancel_work_over_the_socket(address: str) -> None:
    registry = JobRegistry()
    listener = ControlListener(address, registry)
    try:
        with registry.running("a"):
            assert send(address, {"action": "status"}) == {"jobs": {"a": [0, 0]}}
            assert send(address, {"action": "cancel", "job_id": "a"}) == {"running": [0, 0]}
            assert send(address, {"action": "cancel", "job_id": 7}) == {"error": "unknown message"}
    finally:
        listener.close()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        send(address, {"action": "status"})


def test_a_stage_listens_at_the_address_of_a_killed_one(tmp_path: Path) -> None:
    address = str(tmp_path / "stage")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(address)
    listener = ControlListener(address, JobRegistry())
    assert send(address, {"action": "status"}) == {"jobs": {}}
    listener.close()


LISTENING = """
import os, socket, sys
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(chr(0) + sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    connection, _ = listener.accept()
    with connection:
        print(connection.recv(1 << 20), flush=True)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a process as another user")
def test_nothing_is_sent_to_another_users_listener() -> None:
    name = f"triton-video-test-{os.urandom(8).hex()}"
    words = [sys.executable, "-c", LISTENING, name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout.readline() == "listening\n"
        with pytest.raises(PermissionError, match="another user"):
            send(f"\0{name}", {"action": "cancel", "job_id": "secret"})
        assert squatter.stdout.readline() == "b''\n"


def test_garbage_does_not_end_the_listener(address: str) -> None:
    listener = ControlListener(address, JobRegistry())
    try:
        for garbage in (b"", b"\xff\xfe", b"[" * 5000):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(address)
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
        assert send(address, {"action": "status"}) == {"jobs": {}}
    finally:
        listener.close()


ASKED = """
import os, sys
from pipeline.triton.control import ControlListener, JobRegistry, send, stage_address
assert os.getpid() == 1
address = stage_address("stage", 1)
listener = ControlListener(address, JobRegistry())
print("listening", flush=True)
sys.stdin.read()
print(send(address, {"action": "status"}))
listener.close()
"""


def test_servers_with_the_same_process_id_in_two_containers_do_not_collide() -> None:
    """Containers on the host's network have separate process ids but share the abstract sockets."""
    contained = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ASKED]
    if subprocess.run([*contained[:4], "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace of process ids can be made here")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = Path(__file__).resolve().parents[3]
    both = [subprocess.Popen(contained, cwd=root, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["listening\n"] * 2
    assert [process.communicate(timeout=20)[0] for process in both] == ["{'jobs': {}}\n"] * 2
