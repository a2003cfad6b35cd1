"""``tritonserver --model-repository DIR`` with what the wheel needs to run at all, and not one
flag of ours.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from bench.lib.ports import free_ports
from cli.runtime.distribution import find_distribution
from cli.runtime.server_command import environment

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def stock_triton(repository: Path, folder: Path) -> Iterator[str]:
    """Its gRPC address. Backends and the log go below ``folder``."""
    wheel = find_distribution()
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for source in wheel.backend_files:
        (backend / source.name).symlink_to(source)
    http, grpc, metrics = free_ports(3)
    command = [
        str(wheel.server),
        "--model-repository",
        str(repository),
        "--backend-directory",
        str(backend.parent),
    ]
    command += [
        f"--{name}-port={port}"
        for name, port in (("http", http), ("grpc", grpc), ("metrics", metrics))
    ]
    command += [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    variables = environment(
        wheel,
        repository=repository,
        libpython_folder=wheel.libpython.parent,
        inherited=os.environ,
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"127.0.0.1:{grpc}", process)
        yield f"127.0.0.1:{grpc}"
    finally:
        # In order, for it removes its shared memory then.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        log.close()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    with triton.InferenceServerClient(url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.is_server_ready(client_timeout=5):
                    return
            except triton.InferenceServerException:
                pass  # not there yet
            time.sleep(0.1)
    pytest.fail("the stock server did not get ready")
