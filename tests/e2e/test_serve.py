"""``triton-video serve`` as a program of its own, in front of a real Triton, called by OpenAI's
own client.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import openai
import psutil
import pytest
from PIL import Image

from cli.runtime.embedded import EmbeddedServer
from cli.runtime.supervisor import SupervisedServer
from tests.e2e.program import KEY, Proxy

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")


@pytest.fixture
def proxy(server: EmbeddedServer, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(server.grpc_url, tmp_path / "data")
    proxy.start()
    yield proxy
    proxy.stop(signal.SIGKILL)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=f"{proxy.url}/v1", max_retries=0) as client:
        yield client


def test_the_sdk_creates_polls_lists_downloads_and_deletes(
    client: openai.OpenAI, tmp_path: Path
) -> None:
    video = client.videos.create_and_poll(prompt="a red circle", seconds="1", size="32x32")
    assert (video.status, video.progress, video.size, video.error) == (
        "completed",
        100,
        "32x32",
        None,
    )
    assert video.id in [found.id for found in client.videos.list()]
    path = tmp_path / "video.mp4"
    client.videos.download_content(video.id).write_to_file(path)
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.width, stream.height) == (32, 32)
        assert frames / float(stream.average_rate) == pytest.approx(float(video.seconds), abs=1e-3)
    for variant in ("thumbnail", "spritesheet"):
        answer = client.videos.download_content(video.id, variant=variant)
        picture = Image.open(io.BytesIO(answer.read()))
        assert (picture.format, answer.response.headers["content-type"]) == ("WEBP", "image/webp")
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_sdk_raises_the_matching_errors(client: openai.OpenAI, proxy: Proxy) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="x", size="65x63")
    assert (caught.value.param, caught.value.code) == ("size", "invalid_value")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="wrong", base_url=f"{proxy.url}/v1", max_retries=0).videos.list()


def test_deleting_a_running_video_frees_the_device(client: openai.OpenAI, proxy: Proxy) -> None:
    long = client.videos.create(prompt="x", extra_body={"num_inference_steps": 200})
    while client.videos.retrieve(long.id).status == "queued":
        time.sleep(0.01)
    client.videos.delete(long.id)
    begin = time.monotonic()
    client.videos.create_and_poll(prompt="next", poll_interval_ms=20)
    assert time.monotonic() - begin < 5, (
        "the next one does not wait for the deleted one's 200 steps"
    )


def test_killed_proxy_resumes_its_jobs(client: openai.OpenAI, proxy: Proxy) -> None:
    """kill -9 of the proxy: what is done downloads, what waits is made in order, what ran is
    taken up once more.
    """
    done = client.videos.create_and_poll(prompt="done", poll_interval_ms=20)
    running = client.videos.create(prompt="running", extra_body={"num_inference_steps": 100})
    waiting = [client.videos.create(prompt=f"waiting {i}") for i in range(2)]
    while client.videos.retrieve(running.id).status == "queued":
        time.sleep(0.01)
    proxy.stop(signal.SIGKILL)
    proxy.start()
    assert client.videos.download_content(done.id).read()[4:8] == b"ftyp"
    ended = [client.videos.poll(video.id, poll_interval_ms=50) for video in (running, *waiting)]
    assert [video.status for video in ended] == ["completed"] * 3
    assert ended[1].completed_at <= ended[2].completed_at


def test_killed_triton_or_stub_is_restarted(repository: Path, tmp_path: Path) -> None:
    """kill -9 of tritonserver and of a stub, each in the middle of a job: the job is made all
    the same.
    """
    with SupervisedServer(repository) as server, ExitStack() as stack:
        proxy = Proxy(server.grpc_url, tmp_path / "data")
        proxy.start()
        stack.callback(proxy.stop)
        with openai.OpenAI(api_key=KEY, base_url=f"{proxy.url}/v1", max_retries=0) as client:
            for victim in (lambda: server.pid, lambda: next(stubs(server.pid))):
                job = client.videos.create(prompt="x", extra_body={"num_inference_steps": 60})
                while client.videos.retrieve(job.id).progress < 5:
                    time.sleep(0.02)
                os.kill(victim(), signal.SIGKILL)
                ended = client.videos.poll(job.id, poll_interval_ms=100)
                assert (ended.status, ended.error) == ("completed", None)


def stubs(server: int) -> Iterator[int]:
    for process in psutil.Process(server).children():
        if "/dit/" in " ".join(process.cmdline()):
            yield process.pid
