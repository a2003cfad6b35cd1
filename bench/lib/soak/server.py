"""``triton-video serve`` with a Triton that it starts itself, in separate folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil

from bench.lib.ports import free_ports
from bench.lib.soak.watch import Watch

START_S, STOP_S = 600.0, 90.0  # the first start of all exports the checkpoint
ERROR = re.compile(r"\bERROR\b|\bCRITICAL\b|^Traceback", re.MULTILINE)


@dataclass
class Soaked:
    """A running server."""

    url: str
    watch: Watch
    data: Path
    log: Path
    exit_code: int | None = None

    def stored_files(self) -> int:
        return sum(path.is_file() for path in (self.data / "videos").rglob("*"))

    def errors(self) -> int:
        return len(ERROR.findall(self.log.read_text(encoding="utf-8", errors="replace")))


@contextmanager
def soaked(folder: Path) -> Iterator[Soaked]:
    """Serve until the block ends, then stop; ``exit_code`` is the process's."""
    (folder / "tmp").mkdir()
    url = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
    command = [
        sys.executable, "-m", "cli", "serve", "--data-path", str(folder / "data"), "--port",
        str(port), "--no-auth",
        "--max-queued", "200",
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1"}
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    server = Soaked(url, Watch(psutil.Process(process.pid)), folder / "data", log)
    try:
        _wait(process, url, log)
        yield server
    finally:
        server.watch.seen.update(
            server.watch.process.children(recursive=True) if process.poll() is None else ()
        )
        process.terminate()
        try:
            server.exit_code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            server.exit_code = process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(
        f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
    )
