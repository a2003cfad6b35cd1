"""An engine that is not installed, does not answer or has no image: one message with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.runtime.engine import Engine, default_image, find_engine, has_gpus
from pipeline.errors import ServerError


@pytest.fixture
def engine(tmp_path: Path):
    """An engine that runs the given lines of shell."""

    def make(script: str) -> Engine:
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return Engine("docker", str(program))

    return make


def error_of(engine: Engine, image: str = "triton-video:1-gpu") -> str:
    with pytest.raises(ServerError) as caught:
        engine.require_image(image)
    return str(caught.value)


def test_image_exists(engine):
    engine("[ $1 = image ]").require_image("x")


def test_daemon_that_does_not_answer(engine):
    error = error_of(engine("echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1"))
    assert error.startswith(
        "docker does not answer: Cannot connect to the Docker daemon at unix:///x; start its daemon"
    )


@pytest.mark.parametrize(
    ("image", "target"),
    [("triton-video:1-gpu", "gpu"), ("triton-video:1-cpu", "cpu"), ("mine", "cpu")],
)
def test_missing_image(engine, image, target):
    error = error_of(engine("[ $1 = info ]"), image)
    assert f"has no image {image}; build it" in error
    assert f"`docker build --target {target} -t {image} .`" in error


def test_engine_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerError, match=r"podman is not installed.*--runtime embedded"):
        find_engine("podman")


def test_engine_installed(engine, tmp_path, monkeypatch):
    engine("exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine("docker") == Engine("docker", str(tmp_path / "docker"))


def test_the_image_is_that_of_the_machine(tmp_path):
    assert not has_gpus(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not has_gpus(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpus(tmp_path)
    assert (default_image("1.2", True), default_image("1.2", False)) == (
        "triton-video:1.2-gpu",
        "triton-video:1.2-cpu",
    )
