"""Videos made over HTTP by two servers of the OpenAI Videos API, with their time."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import imageio.v3 as iio
import numpy as np
import psutil

from bench.lib.ports import free_ports
from bench.lib.proxy.program import program
from bench.lib.serving import note
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import GenerationError
from pipeline.families import SamplingParams

POLL_S, START_S, REQUEST_S = 0.01, 600, 600


@dataclass(frozen=True)
class Side:
    """A running server, its process, and the fields that only its requests have.

    A server that ``spins`` keeps a core busy while it is idle.
    """

    url: str
    pid: int
    fields: Mapping[str, Any]
    spins: bool = False


@dataclass(frozen=True)
class Timed:
    """Seconds from the request to the last byte of the MP4; CPU seconds of all processes of the
    server meanwhile; and the frames, uint8 (T, H, W, 3).
    """

    seconds: float
    cpu_s: float
    frames: np.ndarray


def request_body(model_path: Path, steps: int) -> dict[str, Any]:
    """Return the checkpoint's defaults as fields that both servers know, ``prompt`` and ``seed``
    left out.
    """
    request = Checkpoint.open(model_path).info.resolve(SamplingParams(prompt="x"))
    scheduler = json.loads((model_path / "scheduler" / "scheduler_config.json").read_text())
    return {
        "size": f"{request.width}x{request.height}",
        "num_frames": request.num_frames,
        "fps": request.fps,
        "num_inference_steps": steps,
        "guidance_scale": request.guidance_scale,
        "negative_prompt": "",
        "flow_shift": scheduler["flow_shift"],
    }


@contextmanager
def triton_video(model_path: Path, threads: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Run ``triton-video serve``; yields its address and process id."""
    port = free_ports(1)[0]
    command = [
        sys.executable, "-m", "cli", "serve", "--model-path", str(model_path),
        "--threads", str(threads), "--port", str(port), "--data-path", str(folder / "ours"),
        "--no-auth", "--quiet",
    ]  # fmt: skip
    note("starting triton-video")
    url = f"http://127.0.0.1:{port}"
    with program(command, url, "/readyz", start_s=START_S) as pid:
        yield url, pid


@contextmanager
def sglang_server(
    sglang: str, model_path: Path, model_id: str, threads: int, folder: Path
) -> Iterator[tuple[str, int]]:
    """Run sglang's diffusion server; yields its address and process id."""
    port = free_ports(1)[0]
    command = [
        sglang, "serve", "--model-type", "diffusion", "--model-path", str(model_path),
        "--model-id", model_id, "--host", "127.0.0.1", "--port", str(port),
        "--output-path", str(folder / "theirs"), "--warmup-mode", "off",
    ]  # fmt: skip
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    note("starting sglang")
    url = f"http://127.0.0.1:{port}"
    with program(command, url, "/health", start_s=START_S, variables=variables) as pid:
        yield url, pid


def alternate(
    sides: Mapping[str, Side], bodies: Sequence[Mapping[str, Any]]
) -> dict[str, list[Timed]]:
    """Send each request to each server in turn; the first of ``bodies`` warms up and is dropped.

    Servers that spin are suspended meanwhile, so that the other server has all cores too.
    """
    timed: dict[str, list[Timed]] = {name: [] for name in sides}
    for number, body in enumerate(bodies):
        for name, side in sides.items():
            with suspended(each.pid for each in sides.values() if each.spins and each != side):
                video = make_video(side, body)
            note(f"{name}: {video.seconds:.2f} s, {video.cpu_s:.2f} s of CPU")
            if number:
                timed[name].append(video)
    return timed


def make_video(side: Side, body: Mapping[str, Any]) -> Timed:
    """Make one video. Raises ``GenerationError`` when the server fails to."""
    before, began = cpu_seconds(side.pid), time.perf_counter()
    with httpx.Client(base_url=side.url, timeout=REQUEST_S) as session:
        answer = session.post("/v1/videos", json={**body, **side.fields})
        video = answer.raise_for_status().json()
        while video["status"] not in ("completed", "failed"):
            time.sleep(POLL_S)
            video = session.get(f"/v1/videos/{video['id']}").raise_for_status().json()
        if video["status"] == "failed":
            raise GenerationError(f"{side.url}: {video['error']}")
        mp4 = session.get(f"/v1/videos/{video['id']}/content").raise_for_status().content
    seconds = time.perf_counter() - began
    cpu_s = cpu_seconds(side.pid) - before
    return Timed(seconds, cpu_s, iio.imread(io.BytesIO(mp4), plugin="pyav"))


@contextmanager
def suspended(pids: Iterable[int]) -> Iterator[None]:
    """Stop these processes and their descendants until the block ends."""
    processes = [process for pid in pids for process in family(pid)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, with children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in family(pid))


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
