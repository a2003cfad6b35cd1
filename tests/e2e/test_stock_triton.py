"""The ensemble is the public face: a stock tritonserver serves it, and any Triton client can call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import tritonclient.grpc as triton

from cli.runtime.distribution import find_distribution
from cli.runtime.ports import free_ports
from cli.runtime.server_command import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stock_server(repository: Path, tmp_path: Path) -> Iterator[str]:
    """``tritonserver --model-repository DIR`` with what the wheel needs to run at all, and not one flag of ours."""
    wheel = find_distribution()
    backend = tmp_path / "backends" / "python"
    backend.mkdir(parents=True)
    for source in wheel.backend_files:
        (backend / source.name).symlink_to(source)
    http, grpc, metrics = free_ports()
    command = [str(wheel.server), "--model-repository", str(repository), "--backend-directory", str(backend.parent)]
    command += [f"--{name}-port={port}" for name, port in (("http", http), ("grpc", grpc), ("metrics", metrics))]
    command += [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    variables = environment(wheel, libpython_folder=wheel.libpython.parent, inherited=os.environ)
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"127.0.0.1:{grpc}", process)
        yield f"127.0.0.1:{grpc}"
    finally:
        process.kill()
        process.wait()
        log.close()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    with triton.InferenceServerClient(url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.is_server_ready():
                    return
            except triton.InferenceServerException:
                time.sleep(0.1)
    pytest.fail("the stock server did not get ready")


def test_a_plain_client_streams_a_video(stock_server: str, tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    program = [sys.executable, "-I", str(Path(__file__).with_name("plain_client.py"))]
    done = subprocess.run(
        [*program, stock_server, "a red circle", str(output)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stages"] == [["denoise", i, 4] for i in range(5)] + [["decode", i, 3] for i in range(4)]
    with av.open(str(output)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == told["made"]["num_frames"] == 9
    assert frames[0].shape == (32, 48, 3)
