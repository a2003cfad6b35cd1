"""Several processes on one database, and one trace through all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest

from cli.runtime.embedded import EmbeddedServer
from pipeline.client import Video
from pipeline.client.aio import AsyncVideoClient
from pipeline.families import SamplingParams
from tests.e2e.program import KEY, Proxy
from tests.waiting import comes_about, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")
# Seconds, also on a quick machine: the worker reports progress only twice a second.
LONG = {"num_inference_steps": 200, "num_frames": 49, "size": "128x128"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def running(*proxies: Proxy) -> Iterator[openai.OpenAI]:
    """A client of the last one."""
    try:
        for proxy in proxies:
            proxy.start()
        with openai.OpenAI(api_key=KEY, base_url=f"{proxies[-1].url}/v1", max_retries=0) as client:
            yield client
    finally:
        for proxy in proxies:
            proxy.stop(signal.SIGKILL)


@contextmanager
def worker(server: EmbeddedServer, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "cli",
        "worker",
        "--triton-url",
        server.grpc_url,
        "--data-path",
        str(folder),
        "-q",
    ]
    with subprocess.Popen([*command, "--lease-s", "2"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_second_proxy_takes_over_a_killed_ones_job(server: EmbeddedServer, tmp_path: Path) -> None:
    """The other one takes its job up, and answers for what it made."""
    one, other = Proxy(server.grpc_url, tmp_path), Proxy(server.grpc_url, tmp_path)
    with running(one) as client:
        done = client.videos.create_and_poll(prompt="done", poll_interval_ms=20)
        job = client.videos.create(prompt="x", extra_body=LONG)
        wait_for(lambda: client.videos.retrieve(job.id).progress > 0, 60)
        with running(other) as client:
            one.stop(signal.SIGKILL)
            assert client.videos.poll(job.id, poll_interval_ms=50).status == "completed"
            for video in (done, job):
                assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"


def test_separate_worker_makes_the_jobs(server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGTERM puts the job in hand back, and the next worker makes it."""
    with running(Proxy(server.grpc_url, tmp_path, "--no-worker")) as client:
        job = client.videos.create(prompt="x", extra_body=LONG)
        with worker(server, tmp_path) as process:
            wait_for(lambda: client.videos.retrieve(job.id).progress > 0, 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert client.videos.retrieve(job.id).status == "queued"
        with worker(server, tmp_path):
            ended = client.videos.poll(job.id, poll_interval_ms=50)
            assert (ended.status, ended.error) == ("completed", None)


async def test_triton_outlives_many_short_requests(server: EmbeddedServer) -> None:
    """Triton 2.51 dies of streams that are cancelled, also after their last response; ours are
    left to end.
    """
    short = SamplingParams(prompt="x", num_inference_steps=1, num_frames=1, guidance_scale=1.0)

    async def last(client: AsyncVideoClient, job_id: str) -> None:
        async with aclosing(client.generate(short, job_id=job_id)) as events:
            async for event in events:
                if isinstance(event, Video):
                    return

    async def one_after_another(number: int) -> None:
        async with AsyncVideoClient(server.grpc_url) as client:
            for turn in range(80):
                request = asyncio.create_task(last(client, f"{number}-{turn}"))
                if turn % 2:
                    await asyncio.sleep(0.004 * (turn % 7))
                    request.cancel()
                await asyncio.wait([request])
                assert request.cancelled() or request.exception() is None

    await asyncio.gather(*map(one_after_another, range(4)))
    assert server.died() is None


class Collector:
    """Takes spans as OpenTelemetry sends them: the SDK in protobuf, Triton in JSON."""

    def __init__(self) -> None:
        self._posts: list[tuple[str, bytes]] = []  # appended to by a thread per request
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector._posts.append((self.headers["content-type"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name there

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def spans(self, kind: str) -> bytes:
        """All that came with this content type."""
        return b"".join(body for content_type, body in self._posts if content_type == kind)


def test_one_trace_from_the_request_through_triton(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    monkeypatch.setitem(os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setitem(os.environ, "OTEL_BSP_SCHEDULE_DELAY", "100")
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    with (
        collector.server,
        EmbeddedServer(repository) as traced,
        running(Proxy(traced.grpc_url, tmp_path)) as client,
    ):
        ours, tritons = "application/x-protobuf", "application/json"
        names = [(tritons, stage) for stage in (b"text_encoder", b"dit", b"vae_decoder")]
        names += [(ours, b"make a video"), (ours, b"POST /v1/videos")]
        # a machine that is too busy may lose spans, as OpenTelemetry allows
        for seconds in (15, 15, 60):
            made = client.videos.poll(
                client.videos.create(prompt="x", extra_headers=headers).id, poll_interval_ms=50
            )
            assert (made.status, made.error) == ("completed", None)
            if comes_about(
                lambda: all(name in collector.spans(kind) for kind, name in names), seconds
            ):
                break
        collector.server.shutdown()
    assert bytes.fromhex(TRACE) in collector.spans(ours)
    assert TRACE.encode() in collector.spans(tritons)
    for kind, name in names:
        assert name in collector.spans(kind)
