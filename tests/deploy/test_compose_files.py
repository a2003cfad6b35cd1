"""The files of the stack, read without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from cli.main import COMMANDS
from cli.params.commands import ServeParams, TritonParams, WorkerParams
from cli.params.options import parameters_of

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
BASE, OVERRIDE, HOST = (
    "docker-compose.yml",
    "docker-compose.override.yml",
    "deploy/compose/host.yml",
)
OVERLAYS = ("deploy/compose/gpu.yml", "deploy/compose/observability.yml")
FILES = (BASE, OVERRIDE, HOST, *OVERLAYS)
COMMAND_PARAMS = {"serve": ServeParams, "worker": WorkerParams, "triton": TritonParams}
OURS = ("triton", "proxy", "worker")


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("files", [(BASE, OVERRIDE), (BASE, OVERRIDE, *OVERLAYS), (BASE, HOST)])
def test_compose_accepts_the_files(files, tmp_path):
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    words = [word for file in files for word in ("-f", file)]
    ended = subprocess.run(
        ["docker-compose", *words, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True,
        check=False,
        env={**os.environ, "TRITON_VIDEO_SECRETS": str(tmp_path)},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("file", [BASE, OVERLAYS[0]])
def test_our_images_are_those_of_this_version(file):
    images = re.findall(r"triton-video:[\w.]+", (ROOT / file).read_text())
    assert images
    assert {image.partition(":")[2] for image in images} == {VERSION}


@pytest.mark.parametrize("file", FILES)
def test_every_variable_is_documented(file):
    page = (ROOT / "docs" / "containers.md").read_text()
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / file).read_text()))
    assert {name for name in variables if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("file", [BASE, HOST])
def test_settings_of_our_services_exist(file):
    for service in OURS:
        found = load(file)["services"][service]
        words = found.get("command", load(BASE)["services"][service]["command"])
        assert words[0] in COMMANDS
        parameters = parameters_of(COMMAND_PARAMS[words[0]]).values()
        flags = {flag for parameter in parameters for flag in (parameter.flag, parameter.off_flag)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= flags
        assert found.get("environment", {}).keys() <= {
            parameter.variable for parameter in parameters
        }


@pytest.mark.parametrize("service", OURS)
def test_our_services_have_few_privileges(service):
    found = load(BASE)["services"][service]
    assert (found["read_only"], found["cap_drop"], found["init"]) == (True, ["ALL"], True)
    assert found["security_opt"] == ["no-new-privileges:true"]


def test_no_port_is_open_to_others():
    for file in FILES:
        for service in load(file).get("services", {}).values():
            for port in service.get("ports", []):
                assert re.match(r"(\$\{TRITON_VIDEO_PORT:-)?127\.0\.0\.1:", port), port
    assert not [name for name, service in load(BASE)["services"].items() if "ports" in service]


def test_no_secret_is_in_an_environment():
    for file in FILES:
        for service in load(file).get("services", {}).values():
            for name, value in service.get("environment", {}).items():
                assert "PASSWORD" not in name or str(value).startswith("/run/secrets/")
                assert not re.search(r"://[^@/]*:[^@/]*@", str(value)), f"{name} holds a password"
