"""Nothing outlives the process that wanted the server, however that process ends."""

import os
import signal
import sys
from pathlib import Path

import pytest

from cli.runtime.embedded import EmbeddedServer
from pipeline.errors import ServerError

pytestmark = pytest.mark.server


def test_a_killed_owner(holder, nothing_left_of):
    holder.process.kill()
    nothing_left_of(holder.server_pid, holder.work_dir, seconds=2)


def test_a_terminated_owner(holder, nothing_left_of):
    holder.process.terminate()
    nothing_left_of(holder.server_pid, holder.work_dir, seconds=2)


def test_ctrl_c_reaches_the_owner_and_not_the_server(holder, nothing_left_of):
    os.killpg(holder.process.pid, signal.SIGINT)
    assert holder.read() == {"died": None}
    holder.process.wait(3)
    nothing_left_of(holder.server_pid, holder.work_dir)


def test_a_killed_keeper(repository, temp_root, nothing_left_of, dies):
    with EmbeddedServer(repository) as server:
        pid, work_dir = server.pid, server.log_path.parent
        os.kill(_parent(pid), signal.SIGKILL)
        assert dies(pid)
        assert server.died() == "tritonserver was stopped from outside"
    nothing_left_of(pid, work_dir, seconds=0.5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_keeper_that_is_terminated(repository, temp_root, nothing_left_of, number):
    with EmbeddedServer(repository) as server:
        pid, work_dir = server.pid, server.log_path.parent
        os.kill(_parent(pid), number)
        nothing_left_of(pid, work_dir, seconds=2)


def test_processes_started_by_a_model_end(add_model, temp_root, tmp_path, dies):
    model = f"""
import subprocess
class TritonPythonModel:
    def initialize(self, args):
        escaped = subprocess.Popen(["sleep", "60"], start_new_session=True)
        open({str(tmp_path / "escaped")!r}, "w").write(str(escaped.pid))
    def execute(self, requests):
        return []
"""
    with EmbeddedServer(add_model(model=model)):
        escaped = int((tmp_path / "escaped").read_text())
        assert not dies(escaped, 0)
    assert dies(escaped, 0)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_keeper_that_cannot_start(repository, temp_root, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(ServerError, match="tritonserver was stopped from outside"),
        EmbeddedServer(repository),
    ):
        pass
    assert list(temp_root.iterdir()) == []
