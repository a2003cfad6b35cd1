"""Probes of this machine for ``triton-video doctor``. None raises, and none takes long."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cli.run.flavours import require_flavour
from cli.runtime.distribution import find_distribution
from pipeline.errors import InputError, ServerError
from pipeline.settings import Flavour

ENGINES = ("docker", "podman")
TIMEOUT_S = 5
MAX_PORT = 65535
QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def embedded_server() -> str | None:
    """Return why the embedded server cannot start; None if it can."""
    try:
        find_distribution()
    except ServerError as error:
        return str(error)
    return None


def flavours() -> dict[str, str | None]:
    """Return why the embedded server cannot run each flavour, or None if it can."""
    found: dict[str, str | None] = {}
    for flavour in get_args(Flavour):
        try:
            require_flavour(flavour)
        except (InputError, ServerError) as error:
            found[flavour] = str(error)
        else:
            found[flavour] = None
    return found


def gpus() -> list[str] | None:
    """Return a line for each GPU; None without a driver."""
    if not shutil.which(QUERY[0]):
        return None
    lines = _answer(QUERY)
    return (
        [line.strip() for line in lines.splitlines() if line.strip()] if lines is not None else []
    )


def engines() -> dict[str, str | None]:
    """Return why each installed container engine cannot be used, or None if it can."""
    found: dict[str, str | None] = {}
    for engine in ENGINES:
        if shutil.which(engine):
            found[engine] = (
                None if _answer((engine, "info")) is not None else f"`{engine} info` fails"
            )
    return found


def memory_bytes() -> int:
    """Return the memory of the machine, or of this process's control group if that is less."""
    total = re.search(
        r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE
    )
    assert total is not None
    limits = [limit.read_text(encoding="ascii").strip() for limit in LIMITS if limit.is_file()]
    return min([int(total[1]) << 10, *(int(limit) for limit in limits if limit.isdigit())])


def writable(folder: Path) -> str | None:
    """Return why ``folder``, which may not exist, cannot be written; None if it can."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        return f"{there} is not a folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"


def port_problem(port: str) -> str | None:
    """Return why ``port`` of this machine cannot be used; None if it can."""
    if not port.isdecimal() or int(port) > MAX_PORT:
        return f"is not a number from 0 to {MAX_PORT}"
    try:
        socket.create_server(("127.0.0.1", int(port))).close()
    except OSError as error:
        # str(error) has the address, too.
        return os.strerror(error.errno) if error.errno else str(error)
    return None


def _answer(command: Sequence[str]) -> str | None:
    """Return the output of a program; None if it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
