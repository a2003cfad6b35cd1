"""``triton-video serve`` while it starts its Triton: what it answers, logs, and how it stops.

The backend of these tests calls the server in the middle of each step of its own start.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from bench.lib.ports import free_ports
from cli.main import run
from cli.params.credentials import KEYS_VARIABLE
from pipeline.ensemble.stages import DIT
from pipeline.errors import ServerError
from tests.cli.conftest import FakeBackend


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class Starting(FakeBackend):
    """Calls ``preparing`` and ``loading`` in the middle of these steps."""

    preparing: Callable[[], object] = stop
    loading: Callable[[], object] = stop
    metrics_socket: Path = Path("/none")

    def prepare(self, checkpoint, settings, on_progress):
        on_progress("part 2 of 3")
        self.preparing()
        (checkpoint.path / DIT.name / "1").mkdir(parents=True)
        checkpoint.info.save(checkpoint.path / DIT.name / "1")
        return checkpoint.path

    def lasting_server(self, repository, on_progress, hang_timeout_s):
        self.on_progress = on_progress
        return self

    def switch(self, repository, pause):
        """Do nothing: there is no export in the background."""

    def __enter__(self):
        self.on_progress("loading dit (1/2)")
        self.loading()
        return self

    def __exit__(self, *_):
        self.log.append("stopped")


@dataclass
class Serve:
    backend: Starting
    http: httpx.Client
    words: list[str]

    def run(self, *flags: str) -> int:
        return run([*self.words, *flags], self.backend)

    def get(self, path: str) -> tuple[int, Any]:
        answer = self.http.get(path)
        return answer.status_code, answer.json()

    def create(self) -> httpx.Response:
        return self.http.post("/v1/videos", json={"prompt": "x"})

    def reason(self) -> str:
        status, health = self.get("/readyz")
        assert (status, health["checks"]["triton"]) == (503, False)
        return health["reasons"]["triton"]


@pytest.fixture
def serve(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv(KEYS_VARIABLE, "key")
    (port,) = free_ports(1)
    words = ["serve", "--model-path", str(checkpoint), "--no-background-export", "--port"]
    words += [str(port), "--data-path", str(tmp_path / "data")]
    headers = {"authorization": "Bearer key"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as http:
        yield Serve(Starting(), http, words)


def test_server_answers_while_the_checkpoint_is_exported(serve: Serve) -> None:
    seen: list[Any] = []

    def preparing() -> None:
        seen.append(serve.get("/livez"))
        seen.append(serve.reason())
        answer = serve.create()
        seen.append((answer.status_code, answer.json()["error"]["code"]))
        seen.append(int(answer.headers["retry-after"]) > 0)
        seen.append(serve.get("/v1/videos")[1]["data"])
        seen.append(serve.get("/metrics/triton")[0])
        stop()

    serve.backend.preparing = preparing
    assert serve.run() == 0
    assert seen == [
        (200, {"status": "ok"}),
        "preparing: part 2 of 3",
        (503, "backend_unavailable"),
        True,
        [],
        503,
    ]


def test_videos_are_queued_while_triton_loads_and_readable_in_the_next_start(serve: Serve) -> None:
    seen: list[Any] = []

    def loading() -> None:
        seen.append(serve.reason())
        seen.append(serve.get("/v1/models")[1]["data"][0]["id"])
        answer = serve.create()
        seen.append((answer.status_code, answer.json()["status"]))
        stop()

    def preparing() -> None:
        seen.append([video["status"] for video in serve.get("/v1/videos")[1]["data"]])
        stop()

    serve.backend.preparing, serve.backend.loading = (lambda: None), loading
    assert serve.run() == 0
    serve.backend.preparing = preparing
    assert serve.run() == 0
    assert seen == ["starting Triton: loading dit (1/2)", "tiny", (200, "queued"), ["queued"]]


def test_log_is_json_from_the_first_line_to_the_error_at_the_end(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    def preparing() -> None:
        raise ServerError("tritonserver did not start: because")

    serve.backend.preparing = preparing
    assert serve.run("--log-format", "json") == 4
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "preparing: part 2 of 3" in [line["message"] for line in lines]
    assert (lines[-1]["level"], lines[-1]["message"]) == (
        "error",
        "tritonserver did not start: because",
    )


@pytest.mark.parametrize("flags", [["--log-format", "json"], ["--log-format=json"]])
def test_wrong_flags_are_logged_in_json(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--port", "x", "--max-queued", "0", *flags]) == 2
    errors = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert [error.partition(":")[0] for error in errors] == ["port", "max_queued"]


def test_interrupt_from_the_keyboard_is_an_error(serve: Serve) -> None:
    serve.backend.preparing = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert serve.run() == 130


def test_http_server_that_cannot_start_is_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("why")

    monkeypatch.setattr("proxy.app.Videos", broken)
    assert serve.run() == 4
    assert "the HTTP server ended; its log has the reason" in capsys.readouterr().err
