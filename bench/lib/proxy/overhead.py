"""What the HTTP server adds to one video, and what memory it takes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import psutil

from bench.lib.proxy.program import store_jobs
from bench.lib.serving import make_video
from pipeline.client import VideoClient
from pipeline.families import SamplingParams
from proxy.video_store import VARIANTS

PROMPT = "a red circle moves right on a white background"


def one_video(url: str, triton_url: str, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of one video by HTTP, request to last byte, and by the bare call of Triton, turn
    by turn.
    """
    http, bare = [], []
    with VideoClient(triton_url) as client, httpx.Client(base_url=url, timeout=600) as session:

        def by_http() -> None:
            session.post("/v1/videos/sync", json={"prompt": PROMPT, "seed": 1}).raise_for_status()

        def by_triton() -> None:
            make_video(client, SamplingParams(prompt=PROMPT, seed=1))

        by_http()
        for _ in range(repeats):
            http.append(_seconds(by_http))
            bare.append(_seconds(by_triton))
    return http, bare


def big_video(folder: Path, size: int) -> str:
    """A completed job whose MP4 has ``size`` bytes; returns its id."""
    key = f"big/{uuid.uuid4().hex}"
    (video_id,) = store_jobs(folder, 1, key)
    path = folder / "videos" / (key + VARIANTS["video"].suffix)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    return video_id


def memory(url: str, pid: int, video_id: str, downloads: int) -> tuple[float, list[float]]:
    """MiB of the server at rest, and at most in each of the downloads."""
    process = psutil.Process(pid)
    idle = process.memory_info().rss / 2**20
    return idle, [_peak(process, lambda: _download(url, video_id)) for _ in range(downloads)]


def _download(url: str, video_id: str) -> None:
    with httpx.stream("GET", f"{url}/v1/videos/{video_id}/content", timeout=600) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw(1 << 20):
            pass


def _peak(process: psutil.Process, work: Callable[[], None]) -> float:
    thread, peak = threading.Thread(target=work), 0
    thread.start()
    while thread.is_alive():
        peak = max(peak, process.memory_info().rss)
        thread.join(0.02)
    return peak / 2**20


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
