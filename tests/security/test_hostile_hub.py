"""A hub that means harm, which huggingface_hub itself downloads from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from pipeline.checkpoint import hub_client
from pipeline.checkpoint.hub import locate
from pipeline.errors import CheckpointError
from tests.conftest import SHAPES
from tests.pipeline.checkpoint.hub_server import COMMIT, Hub, _Handler

Report = Callable[[str], None]
SECRET = "hunter2-secret"
NAME = Path("acme/evil")


@pytest.fixture
def other() -> Iterator[tuple[str, list[str | None]]]:
    """Another host (by name), and the credentials that it is sent."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the parent's name

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://localhost:{server.server_port}", seen
        server.shutdown()


@pytest.fixture
def hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[type[_Handler]], Hub]]:
    """Starts a hub that answers by the handler it is given, and has huggingface_hub use it."""
    servers: list[ThreadingHTTPServer] = []
    folder = tmp_path / "served"
    shutil.copytree(SHAPES, folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "deep" / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", f"hf_{SECRET}")

    def start(handler: type[_Handler]) -> Hub:
        hub = Hub(folder, str(NAME))
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub}))
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        url = hub.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return hub

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


class Named(_Handler):
    """Names files by headers that lead out of the cache."""

    etag, commit = '"' + "a" * 40 + '"', COMMIT

    def _file(self, file: Path) -> None:
        self._send(file.read_bytes(), {"X-Repo-Commit": self.commit, "ETag": self.etag})


class ByEtag(Named):
    etag = '"../../../../escaped"'


class ByCommit(Named):
    commit = "../../../../escaped"


class ByPath(_Handler):
    def _entries(self) -> list[dict[str, object]]:
        return [
            *map(self._entry, self._files()),
            {"type": "file", "path": self.path_out, "size": 5, "oid": "a" * 40},
        ]

    path_out = "vae/../../../../../../escaped.json"

    def _answer(self) -> None:
        if "/tree/" in self.path:
            self._send(json.dumps(self._entries()).encode(), {})
        else:
            super()._answer()


@pytest.mark.attack(
    "a hostile hub names files outside the cache", "an ETag wrote any file of the user"
)
def test_a_hub_writes_nothing_outside_its_cache(
    hub: Callable[..., Hub], tmp_path: Path, after: Report
) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    for handler in (ByEtag, ByCommit, ByPath):
        hub(handler)
        before = files(tmp_path)
        with pytest.raises(CheckpointError):
            locate(NAME)
        assert {
            path for path in files(tmp_path) - before if not path.is_relative_to(cache)
        } == set()
    after("refused, nothing written")


class Endless(_Handler):
    """Sends the weights without an end."""

    def _file(self, file: Path) -> None:
        if self.command == "HEAD" or file.suffix != ".safetensors":
            super()._file(file)
            return
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.close_connection = True


@pytest.mark.attack("a hostile hub sends a file without an end", "written until the disk was full")
def test_a_hub_fills_no_disk(
    hub: Callable[..., Hub], tmp_path: Path, after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "MAX_LISTING_BYTES", 4 << 20)
    hub(Endless)
    with pytest.raises(CheckpointError, match="sends more than it announced"):
        locate(NAME)
    written = sum(path.stat().st_size for path in files(Path(constants.HF_HUB_CACHE)))
    assert written < 40 << 20
    after("an error 64 MiB past what it announced")


@pytest.mark.attack("a hostile hub's listing has no end", "asked for the next page for ever")
def test_a_hub_ends_its_listing(
    hub: Callable[..., Hub], after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pages(_Handler):
        def _answer(self) -> None:
            if "/tree/" in self.path:
                self._send(b"[]", {"Link": f'<{self.hub.url}{self.path}>; rel="next"'})
            else:
                super()._answer()

    monkeypatch.setattr(hub_client, "MAX_REQUESTS", 50)
    hub(Pages)
    with pytest.raises(CheckpointError, match="more than 50 requests"):
        locate(NAME)
    after("an error after 5,000 requests")


@pytest.mark.attack("a hub's listing continues at another host", "that host was sent HF_TOKEN")
def test_another_host_is_not_sent_the_token(
    hub: Callable[..., Hub], other: tuple[str, list[str | None]], after: Report
) -> None:
    address, seen = other

    class Elsewhere(_Handler):
        def _answer(self) -> None:
            tokens.add(self.headers.get("Authorization"))
            if "/tree/" in self.path:
                entries = json.dumps([self._entry(file) for file in self._files()]).encode()
                self._send(entries, {"Link": f'<{address}/next>; rel="next"'})
            else:
                super()._answer()

    tokens: set[str | None] = set()
    asked = hub(Elsewhere).asked
    locate(NAME)
    assert tokens == {f"Bearer hf_{SECRET}"}, "the hub itself is sent it"
    assert seen
    assert set(seen) == {None}
    assert not any("agent-harnesses" in line for line in asked)
    after("no token")
