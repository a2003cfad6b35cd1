"""The keeper alone, with shell scripts for a server: its words, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.runtime import keeper
from tests.cli.runtime.conftest import is_alive, wait_until

READ_S = 10


class Kept:
    """A keeper, by its channel."""

    def __init__(self, folder: Path, script: str, **options: Any) -> None:
        self.work_dir = folder / f"keeper-test-{os.getpid()}"
        launch = {
            "argv": ["/bin/sh", "-c", script],
            "env": {"PATH": os.environ["PATH"], "SAID": "by the owner"},
            "cwd": str(folder),
            "work_dir": str(self.work_dir),
            "links": {},
            "folders": [],
            "shm_prefix": self.work_dir.name,
            **options,
        }
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(READ_S)
        with theirs:
            command = [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._lines = self.channel.makefile()
        self.channel.sendall(json.dumps(launch).encode() + b"\n")

    def read(self) -> dict[str, Any] | None:
        """The keeper's next word; None at its end."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self.channel.close()

    def stop(self) -> None:
        self.close()
        assert self.process.wait(READ_S) == 0


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []

    def start(script: str, **options: Any) -> Kept:
        made.append(Kept(tmp_path, script, **options))
        return made[-1]

    yield start
    for kept in made:
        kept.close()
        kept.process.kill()
        kept.process.wait()


def content(file: Path) -> str:
    """What is in the file, once there is something."""
    assert wait_until(lambda: file.exists() and file.read_text() != "", READ_S)
    return file.read_text()


def test_server_runs_until_its_owner_lets_go(keep, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    kept = keep(
        'echo "said $SAID"; umask; exec sleep 60',
        links={"models/link": str(target), "models/other": str(target)},
        folders=["sockets"],
    )
    pid = kept.read()["pid"]
    assert content(kept.work_dir / "server.log").startswith("said by the owner")
    assert wait_until(lambda: "0077" in (kept.work_dir / "server.log").read_text())
    assert (kept.work_dir / "models" / "link").resolve() == target
    assert (kept.work_dir / "sockets").is_dir()
    assert os.getpgid(pid) == pid
    kept.stop()
    assert not is_alive(pid)
    assert not kept.work_dir.exists()
    assert target.exists()


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", -9)])
def test_end_of_the_server_is_told_with_its_status(keep, script: str, status: int) -> None:
    kept = keep(script)
    assert list(kept.read()) == ["pid"]
    assert kept.read() == {"exit": status}
    assert kept.work_dir.exists(), "the log is still to be read"
    kept.stop()
    assert not kept.work_dir.exists()


def test_server_without_a_log_prints_where_the_keeper_does(keep) -> None:
    kept = keep("exit 0", log=False)
    kept.read()
    assert kept.read() == {"exit": 0}
    assert list(kept.work_dir.iterdir()) == []


def test_program_that_is_not_there_is_an_error(keep) -> None:
    kept = keep("", argv=["/no/such/program"])
    assert "No such file" in kept.read()["error"]
    assert kept.read() is None
    assert kept.process.wait(READ_S) == 0
    assert not kept.work_dir.exists()


def test_server_starts_again_in_emptied_folders(keep) -> None:
    kept = keep("exec sleep 60", folders=["sockets"])
    first = kept.read()["pid"]
    (kept.work_dir / "sockets" / "old").touch()
    (kept.work_dir / "kept").touch()
    kept.channel.sendall(b"again\n")
    second = kept.read()["pid"]
    assert first != second
    assert not is_alive(first)
    assert is_alive(second)
    assert list((kept.work_dir / "sockets").iterdir()) == []
    assert (kept.work_dir / "kept").exists()
    kept.stop()
    assert not is_alive(second)


def test_server_that_ended_may_start_again(keep) -> None:
    kept = keep("exit 3")
    for _ in range(3):
        assert list(kept.read()) == ["pid"]
        assert kept.read() == {"exit": 3}
        kept.channel.sendall(b"again\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_keeper_and_its_server(keep, number: int) -> None:
    kept = keep("exec sleep 60")
    pid = kept.read()["pid"]
    kept.process.send_signal(number)
    assert kept.process.wait(READ_S) == 0
    assert not is_alive(pid)
    assert not kept.work_dir.exists()


def test_server_dies_with_a_killed_keeper(keep) -> None:
    kept = keep("exec sleep 60")
    pid = kept.read()["pid"]
    kept.process.kill()
    assert wait_until(lambda: not is_alive(pid), READ_S)


@pytest.mark.parametrize("way", ["owner", "server"])
def test_processes_that_left_the_group_end_too(keep, tmp_path: Path, way: str) -> None:
    end = "exec sleep 60" if way == "owner" else "while ! test -e end; do sleep 0.02; done"
    kept = keep(f"setsid sleep 60 & echo $! > escaped; {end}")
    kept.read()
    escaped = int(content(tmp_path / "escaped"))
    assert is_alive(escaped)
    if way == "owner":
        kept.stop()
    else:
        (tmp_path / "end").touch()
        assert kept.read() == {"exit": 0}
    assert not is_alive(escaped)


def test_shared_memory_of_the_run_is_removed_and_no_other(keep) -> None:
    kept = keep("exec sleep 60")
    kept.read()
    own = Path("/dev/shm", f"{kept.work_dir.name}-region")
    other = Path("/dev/shm", f"another-{kept.work_dir.name}")
    for region in (own, other):
        region.touch()
    try:
        kept.stop()
        assert not own.exists()
        assert other.exists()
    finally:
        other.unlink(missing_ok=True)


def test_stopped_keeper_cleans_up_when_its_owner_ends(keep) -> None:
    """SIGCONT at its owner's end is the kernel's; here the signal is sent."""
    kept = keep("exec sleep 60")
    pid = kept.read()["pid"]
    kept.process.send_signal(signal.SIGSTOP)
    kept.close()
    time.sleep(0.05)
    assert is_alive(pid)
    kept.process.send_signal(signal.SIGCONT)
    assert kept.process.wait(READ_S) == 0
    assert not is_alive(pid)


ENGINE = """#!/bin/sh
echo "$2" >> {calls}
count=$(wc -l < {calls})
case "$2" in
  rm) test "$count" -ge {appears} && rm -f {container}; exit 0 ;;
  inspect) test "$count" -eq 2 && test {appears} -gt 2 && touch {container}
           test -e {container} ;;
esac
"""


@pytest.mark.parametrize("appears", [0, 3])
def test_container_is_looked_for_until_it_is_certainly_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appears: int
) -> None:
    """A client that was killed early may have asked for one that comes a moment later."""
    calls, container, engine = (tmp_path / name for name in ("calls", "container", "engine"))
    engine.write_text(ENGINE.format(calls=calls, container=container, appears=appears))
    engine.chmod(0o755)
    paused: list[float] = []
    monkeypatch.setattr(
        keeper, "time", SimpleNamespace(sleep=paused.append, monotonic=time.monotonic)
    )
    launch = keeper.Launch(
        [], {"PATH": os.environ["PATH"]}, "", "", {}, [], "", (str(engine), "name")
    )
    keeper.remove_container(launch)
    assert not container.exists()
    rounds = ["rm", "inspect"] * (2 if appears == 0 else 3)
    assert calls.read_text().split() == rounds
    assert paused[0] == 0.2
    assert paused[-1] == 0


def test_engine_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda _: now.__setitem__(0, now[0] + 1)
    )
    monkeypatch.setattr(keeper, "time", clock)
    launch = keeper.Launch([], {}, "", "", {}, [], "", (str(tmp_path / "none"), "name"))
    keeper.remove_container(launch)
    assert 14 <= now[0] <= 17


def test_run_without_a_container_asks_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(run=lambda *_, **__: pytest.fail("it was asked"))
    monkeypatch.setattr(keeper, "subprocess", engine)
    keeper.remove_container(keeper.Launch([], {}, "", "", {}, [], ""))


# A "tritonserver" that makes a folder as the python backend does; its path is in malloc's heap.
BACKEND = """
import ctypes, os, secrets, sys, time
path = f"/tmp/python_env_{secrets.token_hex(3)}"
os.mkdir(path)
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
ctypes.memmove(malloc(ctypes.c_size_t(4097)), path.encode() + b"\\0", len(path) + 1)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(path)
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""


def test_folder_of_the_python_backend_is_removed_and_no_other(
    keep: Callable[..., Kept], tmp_path: Path
) -> None:
    program = tmp_path / "tritonserver"
    program.symlink_to(os.path.realpath(sys.executable))
    folders, servers = [], []
    for name in ("one", "other"):
        note = tmp_path / name
        argv = [str(program), "-I", "-S", "-c", BACKEND, str(note)]
        work_dir = str(tmp_path / f"keeper-test-{name}")
        servers.append(keep("", argv=argv, work_dir=work_dir, shm_prefix=f"keeper-test-{name}"))
        assert wait_until(note.exists, 10)
        folders.append(Path(note.read_text()))
    one, other = servers
    one.stop()
    assert [folder.exists() for folder in folders] == [False, True]
    other.stop()
    assert not folders[1].exists()
