"""``triton-video serve`` as a program of its own, for the tests that call it over a socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2 as httpx

from bench.lib.ports import free_ports

KEY = "sk-for-this-test"


class Proxy:
    """The program, started and stopped as often as a test wants, on one port and one data folder.

    ``flags`` are added to its own, and what it writes goes to ``log``. ``program`` is a module with
    its arguments, and ``environment`` has more variables for it.
    """

    def __init__(
        self,
        triton_url: str,
        folder: Path,
        *flags: str,
        keys: Sequence[str] = (KEY,),
        log: Path = Path(os.devnull),
        program: Sequence[str] = ("cli", "serve"),
        environment: Mapping[str, str] | None = None,
    ):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._argv = [
            sys.executable, "-m", *program, "--triton-url", triton_url, "--data-path",
            str(folder),
            "--port", str(port), "--lease-s", "2", *flags,
        ]  # fmt: skip
        self._environment = {"TRITON_VIDEO_API_KEYS": ",".join(keys), **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {**os.environ, **self._environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                assert self._process.poll() is None, "the proxy ended"
            assert time.monotonic() < deadline, "the proxy is not ready"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None
