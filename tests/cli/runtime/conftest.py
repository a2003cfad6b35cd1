import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "IN") for request in requests]
        values = [tensor.as_numpy() for tensor in tensors]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value * 2)]) for value in values]
"""
CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
HOLDER = """
import json, sys, time
from pathlib import Path
from cli.runtime.embedded import EmbeddedServer

with EmbeddedServer(Path(sys.argv[1])) as server:
    try:
        print(json.dumps({"pid": server.pid, "work_dir": str(server.log_path.parent)}), flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.2)
        print(json.dumps({"died": server.died()}), flush=True)
        raise
"""


@pytest.fixture
def add_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a python model; returns the repository."""

    def add(name: str = "echo", *, model: str | None = ECHO, config: str = CONFIG) -> Path:
        version = tmp_path / "repository" / name / "1"
        version.mkdir(parents=True)
        version.with_name("config.pbtxt").write_text(config)
        if model is not None:
            (version / "model.py").write_text(model)
        return tmp_path / "repository"

    return add


@pytest.fixture
def repository(add_model) -> Path:
    return add_model()


@pytest.fixture
def temp_root(monkeypatch, tmp_path_factory) -> Iterator[Path]:
    """Where this test's servers put their temporary folders: a short path, as those of sockets
    have to be.
    """
    tmp_path_factory.getbasetemp()  # made at its first use: not inside this folder
    with tempfile.TemporaryDirectory(prefix="tv-", dir="/tmp") as name:
        monkeypatch.setattr("tempfile.tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


class Holder:
    """Another process that holds a server, in a process group of its own as a shell would start
    it.
    """

    def __init__(self, repository: Path):
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(repository)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        started = self.read()
        self.server_pid: int = started["pid"]
        self.work_dir = Path(started["work_dir"])

    def read(self) -> dict:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def holder(repository: Path, temp_root: Path):
    held = Holder(repository)
    yield held
    held.process.kill()
    held.process.wait()
    assert held.process.stdout is not None
    held.process.stdout.close()


def group_is_alive(group: int) -> bool:
    """Whether tritonserver or one of its stubs is there, zombies aside."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = (
                stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            )
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            return True
    return False


def processes_named(name: str) -> list[str]:
    """Command lines with ``name`` in them: stubs have it, also outside of the server's group."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if name in line else []
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def what_is_left(pid: int, work_dir: Path) -> list[str]:
    processes = [f"process group {pid}"] if group_is_alive(pid) else []
    processes += processes_named(work_dir.name)
    regions = [str(path) for path in Path("/dev/shm").glob(f"{work_dir.name}*")]
    return [*processes, *regions, *([str(work_dir)] if work_dir.exists() else [])]


def wait_until(condition: Callable[[], bool], seconds: float = 3) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def dies():
    """Whether a process ends within `seconds`."""
    return lambda pid, seconds=3: wait_until(lambda: not is_alive(pid), seconds)


@pytest.fixture
def eventually():
    """Whether a condition comes true within three seconds."""
    return lambda condition: wait_until(lambda: bool(condition()))


@pytest.fixture
def nothing_left_of():
    """Asserts that within `seconds` nothing of a server remains."""

    def check(pid: int, work_dir: Path, seconds: float = 0) -> None:
        wait_until(lambda: not what_is_left(pid, work_dir), seconds)
        assert what_is_left(pid, work_dir) == []

    return check
