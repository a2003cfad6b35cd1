"""The backend of each runtime, and the commands that --dry-run prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cli.main import run
from cli.params.groups import StartGroup
from cli.run.backend import Backend
from cli.run.choice import choose_backend
from cli.run.container_backend import ContainerBackend
from pipeline.errors import ServerError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A PATH with nothing on it but the named engines, which do nothing."""

    def make(*names: str) -> None:
        (tmp_path / "bin").mkdir()
        for name in names:
            (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 0\n")
            (tmp_path / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return make


@pytest.mark.parametrize(
    ("runtime", "installed", "engines", "chosen"),
    [
        ("auto", True, ("docker",), None),
        ("embedded", True, ("docker",), None),
        ("auto", False, ("podman", "docker"), "docker"),
        ("auto", False, ("podman",), "podman"),
        ("auto", False, (), None),  # which then says what to install
        ("podman", True, ("podman", "docker"), "podman"),
    ],
)
def test_the_runtime(programs, monkeypatch, runtime, installed, engines, chosen):
    programs(*engines)
    monkeypatch.setattr("cli.runtime.distribution.is_there", lambda: installed)
    backend = choose_backend(StartGroup(runtime=runtime))
    assert isinstance(backend, ContainerBackend) is (chosen is not None)
    if isinstance(backend, ContainerBackend):
        assert backend.engine.name == chosen
    else:
        assert type(backend) is Backend


def test_requested_engine_is_missing(programs):
    programs()
    with pytest.raises(ServerError, match="docker is not installed"):
        choose_backend(StartGroup(runtime="docker"))


def test_a_dry_run_prints_commands_for_a_shell(programs, checkpoint, capsys):
    programs("docker")
    words = [
        "generate",
        "--prompt",
        "p",
        "--model-path",
        str(checkpoint),
        "--runtime",
        "docker",
        "--image",
        "an image",
    ]
    assert run([*words, "--dry-run"]) == 0
    preparing, serving = [
        line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")
    ]
    assert {"an image", "cli.runtime.preparing"} <= set(shlex.split(preparing))
    assert {"an image", "--until-stdin-ends"} <= set(shlex.split(serving))
    assert '--model-repository "$REPOSITORY"' in serving


def test_a_dry_run_of_a_container_has_the_plan_in_comments(programs, checkpoint, capsys):
    programs("docker")
    flags = ["--model-path", str(checkpoint), "--runtime", "docker", "--dry-run"]
    assert run(["generate", "--prompt", "p", *flags]) == 0
    comments = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert any(line.startswith("# memory: needs ") for line in comments)
