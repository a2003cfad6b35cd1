"""Every process has the variables that turn off telemetry, but the operator's own values win."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.child import Child
from export.options import ExportOptions
from pipeline.ranks import process
from pipeline.system.telemetry import OFFLINE, OPT_OUT, offline, opt_out

ROOT = Path(__file__).resolve().parents[3]


def test_the_operators_value_wins_unless_it_is_empty() -> None:
    environment = {"ORT_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "", "PATH": "/bin"}
    opt_out(environment=environment)
    assert environment == {**OPT_OUT, "ORT_DISABLE_TELEMETRY": "0", "PATH": "/bin"}


def test_the_environment_of_a_child_is_a_copy() -> None:
    environment = {"HF_HUB_OFFLINE": "0"}
    assert offline(environment) == {**OFFLINE, "HF_HUB_OFFLINE": "0"}
    assert environment == {"HF_HUB_OFFLINE": "0"}


def test_an_export_process_has_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This module itself stands in for the exporter; see its end."""
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    lines: list[str] = []
    child = Child("vae", tmp_path, tmp_path, ExportOptions(), module=__name__)
    assert child.run(lines.append) is None
    assert lines == [f"{name}={value}" for name, value in OFFLINE.items()]


def test_a_rank_has_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    environments: list[dict[str, str]] = []

    def start(*arguments: object, env: dict[str, str], **options: object) -> None:
        environments.append(env)

    monkeypatch.setattr(process.subprocess, "Popen", start)
    process.RankProcess(0, rendezvous=0).channel.close()
    assert environments[0].items() >= offline(os.environ).items()


def test_the_command_line_sets_the_variables_before_onnxruntime_loads() -> None:
    program = (
        "import os, sys; from cli.main import run; run(['--version'])\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "1 False"


if __name__ == "__main__":
    for each in OFFLINE:
        print(f"{each}={os.environ.get(each)}")  # noqa: T201 - what the parent reads
