"""A local Hugging Face Hub server that answers the requests of huggingface_hub from a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSALS = {"RepoNotFound": 404, "GatedRepo": 403, "RevisionNotFound": 404, "EntryNotFound": 404}


@dataclass
class Hub:
    """Describe one repository with the files in ``folder``; .safetensors files are served as LFS
    files.
    """

    folder: Path
    repository: str
    revisions: tuple[str, ...] = ("main", COMMIT)
    refusal: str | None = None
    token: str | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def refused(self, repository: str, revision: str, authorization: str | None) -> str | None:
        if repository != self.repository:
            return "RepoNotFound"
        if self.token and authorization != f"Bearer {self.token}":
            return "GatedRepo"
        return self.refusal or (None if revision in self.revisions else "RevisionNotFound")


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the parent's
        pass

    def _answer(self) -> None:
        words = urlsplit(self.path).path.strip("/").split("/")
        self.hub.asked.append(f"{self.command} {self.path}")
        if words[:2] == ["api", "models"]:
            repository, kind, revision = "/".join(words[2:4]), words[4], words[5]
        else:
            repository, kind, revision = "/".join(words[:2]), words[2], words[3]
        if refusal := self.hub.refused(repository, revision, self.headers.get("Authorization")):
            self._refuse(refusal)
        elif kind == "revision":
            self._send(json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode(), {})
        elif kind == "tree":
            self._send(json.dumps([self._entry(file) for file in self._files()]).encode(), {})
        else:
            self._file(self.hub.folder / "/".join(words[4:]))

    def _files(self) -> list[Path]:
        return sorted(file for file in self.hub.folder.rglob("*") if file.is_file())

    def _entry(self, file: Path) -> dict[str, object]:
        entry = {
            "type": "file",
            "path": str(file.relative_to(self.hub.folder)),
            "size": file.stat().st_size,
        }
        large = {"lfs": {"oid": _hash(file), "size": file.stat().st_size, "pointerSize": 130}}
        return {
            **entry,
            "oid": _hash(file)[:40],
            **(large if file.suffix == ".safetensors" else {}),
        }

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._refuse("EntryNotFound")
            return
        etag = _hash(file) if file.suffix == ".safetensors" else _hash(file)[:40]
        self._send(file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def _refuse(self, code: str) -> None:
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": code}, REFUSALS[code])

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
