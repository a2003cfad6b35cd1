"""``doctor``: each check on what other machines have, and all of them on this one."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cli.commands import diagnosis, probes
from cli.commands.diagnosis import Finding, State
from cli.main import run
from pipeline.system.nvidia_driver import Driver

L4, DRIVER = "NVIDIA L4, 23034 MiB, 570.1", Driver("570.1", (12, 8))
OK, NOTE, FAILED = State.OK, State.NOTE, State.FAILED


@pytest.mark.parametrize(
    ("finding", "state", "words"),
    [
        (diagnosis.python((3, 12)), OK, ""),
        (diagnosis.python((3, 13)), FAILED, "use Python 3.11 or 3.12"),
        (diagnosis.numpy("1.26.4"), OK, ""),
        (diagnosis.numpy("2.1.0"), FAILED, "numpy<2"),
        (diagnosis.numpy(None), FAILED, "numpy<2"),
        (diagnosis.packages({"torch": "2.13.0"}), OK, ""),
        (diagnosis.packages({"torch": None, "click": "8"}), NOTE, "torch missing"),
        (diagnosis.triton(None, {}, installed=True), OK, ""),
        (
            diagnosis.triton("no libpython", {"docker": "fails"}, installed=True),
            FAILED,
            "no libpython",
        ),
        (
            diagnosis.triton("no libpython", {"podman": None}, installed=True),
            NOTE,
            "--runtime podman",
        ),
        (diagnosis.triton("not installed", {}, installed=False), NOTE, "not installed"),
        (diagnosis.gpu([L4], "12.8", DRIVER), OK, ""),
        (diagnosis.gpu([L4], None, DRIVER), OK, ""),
        (diagnosis.gpu([L4], "13.0", None), OK, ""),
        (diagnosis.gpu([L4], "13.0", DRIVER), FAILED, "needs driver 580 or newer"),
        (diagnosis.gpu([L4], "", DRIVER), FAILED, "install one for CUDA 12.8 or older"),
        (diagnosis.gpu([], "", None), NOTE, "nvidia-smi"),
        (diagnosis.gpu(None, "", None), NOTE, "on the CPU"),
        (diagnosis.flavours({"python": None, "tensorrt": "no GPU"}, gpus=False), OK, ""),
        (
            diagnosis.flavours({"python": None, "tensorrt": "no package"}, gpus=True),
            NOTE,
            "no pack",
        ),
        (diagnosis.flavours({"python": None, "tensorrt": None}, gpus=True), OK, ""),
        (diagnosis.containers({"docker": None}), OK, ""),
        (diagnosis.containers({"docker": "`docker info` fails", "podman": None}), OK, ""),
        (diagnosis.containers({"docker": "`docker info` fails"}), NOTE, "start the engine"),
        (diagnosis.containers({}), NOTE, "install docker or podman"),
        (diagnosis.memory(1 << 30), NOTE, "4 GB"),
        (diagnosis.memory(64 << 30), OK, ""),
        (diagnosis.cache_space(Path("/c"), None, 1 << 40), OK, ""),
        (diagnosis.cache_space(Path("/c"), None, 1 << 20), NOTE, "another disk"),
        (
            diagnosis.cache_space(Path("/c"), "/c cannot be written to", 1 << 40),
            FAILED,
            "TRITON_VIDEO_CACHE",
        ),
        (diagnosis.shared_memory(64 << 20, gpus=False), NOTE, "--shm-size=1g"),
        (diagnosis.shared_memory(128 << 20, gpus=False), OK, ""),
        (diagnosis.shared_memory(128 << 20, gpus=True), NOTE, "--shm-size=2g"),
        (diagnosis.shared_memory(1 << 30, gpus=True), OK, ""),
        (diagnosis.listening("30010", None), OK, ""),
        (diagnosis.listening("30010", "Address already in use"), NOTE, "--port"),
    ],
)
def test_findings_and_advice(finding: Finding, state: State, words: str):
    assert finding.state is state
    assert words in finding.advice
    assert bool(finding.advice) is (state is not OK)


@pytest.fixture
def found(monkeypatch):
    """Replaces the checks: a list of what they find."""

    def replace(*findings: Finding):
        monkeypatch.setattr(diagnosis, "examine", lambda environment: list(findings))

    return replace


def test_notes_do_not_stop_a_run_and_failures_do(found, capsys):
    found(Finding("gpu", NOTE, "no driver", "buy one"))
    assert run(["doctor"]) == 0
    assert "gpu: buy one" in capsys.readouterr().out
    found(Finding("gpu", NOTE, "no driver", "buy one"), Finding("numpy", FAILED, "2.0", "go back"))
    assert run(["doctor", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["checks"][1] == {
        "name": "numpy", "state": "failed", "found": "2.0", "advice": "go back"
    }  # fmt: skip


def test_this_machine_can_run_what_these_tests_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "not" / "yet"))
    assert run(["doctor", "--json"]) == 0
    states = {
        check["name"]: check["state"] for check in json.loads(capsys.readouterr().out)["checks"]
    }
    assert len(states) == 11
    assert states["python"] == states["numpy"] == states["triton"] == "ok"
    assert not (tmp_path / "not").exists()


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert probes.port_problem(str(taken.getsockname()[1])) == "Address already in use"
    assert probes.port_problem("0") is None
    assert probes.port_problem("http") == "is not a number from 0 to 65535"
    assert probes.port_problem("70000") == "is not a number from 0 to 65535"


def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert probes.writable(tmp_path / "file" / "cache") == f"{tmp_path / 'file'} is not a folder"
    assert probes.writable(tmp_path / "none") is None


def test_programs_that_are_missing_fail_or_hang(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (probes.gpus(), probes.engines()) == (None, {})
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.2)
    for name, line in (
        ("nvidia-smi", "echo 'NVIDIA L4, 23034 MiB, 570.1'"),
        ("docker", "exit 1"),
        ("podman", "/bin/sleep 9"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    assert probes.gpus() == ["NVIDIA L4, 23034 MiB, 570.1"]
    assert probes.engines() == {"docker": "`docker info` fails", "podman": "`podman info` fails"}


def test_memory_is_that_of_the_control_group(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("max\n")
    monkeypatch.setattr(probes, "LIMITS", (tmp_path / "max",))
    whole = probes.memory_bytes()
    (tmp_path / "max").write_text("1048576\n")
    assert probes.memory_bytes() == 1 << 20 < whole
