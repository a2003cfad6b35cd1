"""A PostgreSQL server for tests: Debian's programs, a temporary folder, a unix socket, no port."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

SERVER_USER = "postgres"  # of Debian's package; the server refuses to run as root
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
START_S = 60.0
OPTIONS = {
    "listen_addresses": "",
    # Nothing here must survive a power failure, and a killed server loses nothing either way.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


class Postgres:
    """One cluster. Its server ends with `stop` and with this process."""

    def __init__(self) -> None:
        self._programs = _programs()
        # Folders of pytest belong to root, and their paths are too long for a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="triton-video-"))
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(SERVER_USER)
            self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._server: subprocess.Popen[bytes] | None = None
        self._made = 0
        options = ["--no-sync", "--auth=trust", "--username=tests", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *options, "--pgdata", str(self._folder / "data"))

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server. Call it from the main thread: the server ends with the thread."""
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder,
                 *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                preexec_fn=_end_with_parent,
                **self._identity,
            )  # fmt: skip
        end = time.monotonic() + START_S
        while not self._answers():
            assert self._server.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: ``SIGINT`` shuts it down, ``SIGQUIT`` crashes it."""
        assert self._server
        self._server.send_signal(how)
        self._server.wait(START_S)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        self._made += 1
        self.execute(f"CREATE DATABASE d{self._made}")
        return self.url(f"d{self._made}")

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.partition('?')[0].rpartition('/')[2]} WITH (FORCE)")

    def url(self, database: str) -> str:
        return f"postgresql://tests@/{database}?host={self._folder}"

    def execute(self, statement: str) -> None:
        self._run(
            "psql",
            "--host",
            str(self._folder),
            "--username=tests",
            "--command",
            statement,
            "postgres",
        )

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "--quiet", "--host", self._folder]
        return subprocess.run(command, timeout=START_S).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=START_S, **self._identity
        )
        assert done.returncode == 0, done.stderr


def _programs() -> Path:
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    initdb = str(debian[-1]) if debian else shutil.which("initdb")
    assert initdb, (
        "these tests start a PostgreSQL: install the Debian package postgresql"
        " (`make test` does it as root)"
    )
    return Path(initdb).parent


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
