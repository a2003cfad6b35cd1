"""`serve` on a checkpoint that was never exported: torch first, the graphs later."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest

from bench.lib.ports import free_ports
from cli.runtime.stubs import stubs
from cli.runtime.supervisor import SupervisedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.families import SamplingParams
from pipeline.settings import StageSettings
from tests.conftest import ROOT
from tests.e2e.program import KEY
from tests.security.processes import alive
from tests.waiting import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")
SWITCHED = "Triton runs the exported graphs from now on"


class Idle:
    """A pause of a server without other jobs."""

    def __init__(self) -> None:
        self.over = False

    def begin(self) -> bool:
        return True

    def end(self) -> None:
        self.over = True


def make(url: str) -> Video:
    with VideoClient(url) as client:
        sampling = SamplingParams(prompt="a red circle", num_inference_steps=2, seed=1)
        *_, last = client.generate(sampling, return_frames=True)
    assert isinstance(last, Video)
    return last


def workers(server: int) -> int:
    """Count the processes that compute in torch."""
    family = psutil.Process(server).children(recursive=True)
    return sum("pipeline.ranks.program" in process.cmdline() for process in family)


def test_switch_at_the_same_address_makes_the_same_video(
    patch_checkpoint: Path, repository: Path, cache: Path
) -> None:
    settings = StageSettings(
        checkpoint=str(patch_checkpoint), encoder_engine="torch", vae_engine="torch"
    )
    in_torch = prepare_repository(
        Checkpoint.open(patch_checkpoint), settings, lambda message: None, cache
    )
    pause = Idle()
    with SupervisedServer(in_torch) as server:
        first, before = make(server.grpc_url), workers(server.pid)
        server.switch(repository, pause)
        wait_for(lambda: pause.over)
        second, after = make(server.grpc_url), workers(server.pid)
    assert first.frames is not None
    assert second.frames is not None
    assert np.abs(first.frames.astype(int) - second.frames).max() <= 1
    assert (before, after) == (3, 1), "only the transformer is in torch"


class Serve:
    """``triton-video serve`` with an empty cache."""

    def __init__(self, checkpoint: Path, folder: Path):
        (port,) = free_ports(1)
        self.log, self.cache, self.data = folder / "log", folder / "cache", folder / "data"
        words = [
            sys.executable, "-m", "cli", "serve", "--model-path", str(checkpoint),
            "--port", str(port), "--data-path", str(self.data),
        ]  # fmt: skip
        variables = {"TRITON_VIDEO_API_KEYS": KEY, "TRITON_VIDEO_CACHE": str(self.cache)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log
            )
        self.client = openai.OpenAI(
            api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0
        )

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.client.models.list().data)
        except (openai.APIConnectionError, openai.InternalServerError):
            return False

    def make(self) -> str:
        video = self.client.videos.create_and_poll(prompt="a circle", poll_interval_ms=50)
        assert (video.status, video.error) == ("completed", None)
        return video.id

    def attempts(self) -> set[int]:
        """Return how often the videos were tried."""
        with closing(sqlite3.connect(next(self.data.glob("*.sqlite")))) as database:
            return {row[0] for row in database.execute("SELECT attempts FROM videos")}


@pytest.fixture
def serve(patch_checkpoint: Path, tmp_path: Path) -> Iterator[Serve]:
    serve = Serve(patch_checkpoint, tmp_path)
    yield serve
    serve.client.close()
    serve.process.kill()
    serve.process.wait()


@pytest.mark.exhaustive  # exports at low priority, and so takes minutes on a busy machine
@pytest.mark.timeout(900)
def test_first_video_is_made_before_the_export_and_later_ones_by_graphs(serve: Serve) -> None:
    wait_for(serve.ready)
    serve.make()
    assert not list(serve.cache.glob("parts/vae_decoder-*/*.onnx")), "there are no graphs yet"
    deadline = time.monotonic() + 600
    while SWITCHED not in serve.log.read_text():
        assert time.monotonic() < deadline, serve.log.read_text()
        serve.make()
    serve.make()
    assert serve.attempts() == {1}, "no job was interrupted"
    family = psutil.Process(serve.process.pid).children(recursive=True)
    (server,) = (child.pid for child in family if list(stubs(child.pid)))
    assert workers(server) == 1


def test_killed_serve_leaves_no_export_behind(serve: Serve) -> None:
    def exporting() -> bool:
        return any("export.part_process" in word for process in family() for word in cmd(process))

    def family() -> list[psutil.Process]:
        return psutil.Process(serve.process.pid).children(recursive=True)

    def cmd(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except psutil.Error:
            return []

    wait_for(serve.ready)
    wait_for(exporting, 180)
    left = family()
    os.kill(serve.process.pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(process.pid) for process in left), 20)
