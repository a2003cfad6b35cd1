"""Shell blocks of a page, run as they stand: only the port and the folders are a test's own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.lib.ports import free_ports
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a page's reader, with our command on the path."""
    program = tmp_path / "bin" / "triton-video"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} "
        f'exec {shlex.quote(sys.executable)} -m cli "$@"\n'
    )
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def port() -> str:
    return str(free_ports(1)[0])


@contextmanager
def running(text: str, folder: Path, port: str) -> Iterator[subprocess.Popen[str]]:
    """Run a block in bash. All that it started ends with it, in the way of Ctrl-C."""
    text = text.replace("30010", port).replace("/tmp/videos", str(folder / "videos"))
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TRITON_VIDEO_PORT": port,
    }
    process = subprocess.Popen(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
