"""The server in a container, with an engine that is made up; a real one is in tests/containers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.runtime import container as containers
from cli.runtime.container import ContainerServer, explain, prepare
from cli.runtime.container_command import Container
from cli.runtime.engine import Engine
from cli.runtime.places import new_name
from pipeline.errors import CheckpointError, OutputError, ServerError

SOCKETS = "listen"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the engine keeps its containers."""
    (tmp_path / "containers").mkdir()
    return tmp_path / "containers"


@pytest.fixture
def container(
    tmp_path: Path, folder: Path, temp_root: Path, monkeypatch
) -> Callable[..., Container]:
    """A run whose container prints ``lines``; the line "listen" opens its sockets."""
    monkeypatch.setattr(containers, "GRACE_S", 0.2)
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_engine.py")} "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "checkpoint").mkdir()

    def make(*lines: str | int) -> Container:
        return Container(
            engine=Engine("docker", str(program)), image=json.dumps(lines),
            cache=tmp_path / "cache",
            checkpoint=tmp_path / "checkpoint", gpus=False,
            variables={**os.environ, "DOCKER_FAKE": str(folder)},
        )  # fmt: skip

    return make


def left(folder: Path, temp_root: Path) -> list[str]:
    """Containers and temporary folders that are still there."""
    return [path.name for path in (*folder.iterdir(), *temp_root.iterdir()) if path.name != "calls"]


def test_container_is_ready_when_sockets_answer_and_removed_after(
    repository, container, folder, temp_root
):
    with ContainerServer(repository, container(SOCKETS)) as server:
        assert len(left(folder, temp_root)) == 2
        assert server.died() is None
        assert server.grpc_url.startswith("unix:/")
    assert left(folder, temp_root) == []


def test_container_is_not_ready_before(repository, container, folder, temp_root):
    with (
        pytest.raises(ServerError, match="not ready after"),
        ContainerServer(repository, container("loading"), startup_timeout_s=1),
    ):
        pass
    assert left(folder, temp_root) == []


def test_container_that_fails_to_start_is_reported_with_its_log(
    repository, container, folder, temp_root
):
    lines = ["Unable to do it", "docker: Error response from daemon: no space left on device.", 125]
    with pytest.raises(ServerError) as caught, ContainerServer(repository, container(*lines)):
        pass
    assert str(caught.value) == (
        "tritonserver did not start: the container ended with exit code 125: "
        "Error response from daemon: no space left on device"
    )
    assert caught.value.details == "\n".join(lines[:-1])
    assert left(folder, temp_root) == []


def test_a_killed_keeper_leaves_no_container(repository, container, folder, temp_root):
    with ContainerServer(repository, container(SOCKETS)) as server:
        keeper = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
        while server.died() is None:
            pass
        assert server.died() == "the container was stopped from outside"
    assert left(folder, temp_root) == []


def test_repository_is_named_by_the_container(container, folder, temp_root):
    messages: list[str] = []
    lines = [
        '{"progress": "text_encoder: reading"}',
        "a warning",
        '{"repository": "/cache/repositories/1"}',
        0,
    ]
    assert prepare(container(*lines), "{}", messages.append) == Path("/cache/repositories/1")
    assert messages == ["text_encoder: reading"]
    assert left(folder, temp_root) == []
    words = json.loads((folder / "calls").read_text().splitlines()[0])
    program = ["-P", "-m", "triton_video", "cli.runtime.preparing", "{}"]
    assert words[-6:] == [container(*lines).image, *program]


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (
            {"error": "x.json is missing", "type": "CheckpointError"},
            CheckpointError,
            "x.json is missing",
        ),
        (
            {"error": "full", "type": "OSError"},
            OutputError,
            "the model repository cannot be prepared: full",
        ),
        (
            {"error": "a: no", "type": "InputError"},
            OutputError,
            "the model repository cannot be prepared: a: no",
        ),
    ],
)
def test_error_in_the_container_keeps_its_class(container, folder, temp_root, message, kind, text):
    with pytest.raises(kind) as caught:
        prepare(container(json.dumps(message), 1), "{}", str)
    assert str(caught.value) == text
    assert left(folder, temp_root) == []


def test_container_without_output(container):
    with pytest.raises(
        ServerError, match="no repository was made: the container ended with exit code 0"
    ):
        prepare(container(0), "{}", str)


@pytest.mark.parametrize(
    ("code", "text", "sentence"),
    [
        (None, "", "the container was stopped from outside"),
        (137, "", "the container was killed (SIGKILL; the kernel does so when memory runs out)"),
        (4, "x\ntriton-video: tritonserver needs libpython.\n",
         "the container ended with exit code 4: tritonserver needs libpython"),
        (1, "Traceback\nKeyError: 'x'\n", "the container ended with exit code 1: KeyError: 'x'"),
        (
            137,
            "I1126 loading\n",
            "the container was killed (SIGKILL; the kernel does so when memory runs out)",
        ),
        (125, "Error: no such image\n", "the container ended with exit code 125: no such image"),
    ],
)  # fmt: skip
def test_the_end_of_a_container_is_explained(code, text, sentence):
    assert explain(code, text) == sentence


def test_run_names_are_unique():
    assert new_name() != new_name()
