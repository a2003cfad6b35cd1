"""``/metrics/triton``: the metrics of a Triton without a port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from pipeline.families import ModelInfo
from proxy.errors import ApiError
from proxy.own_triton import OwnTriton, Place
from proxy.triton_metrics import TritonMetrics

PAGE = b"nv_inference_count 1\n"


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET /metrics ")
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield
        thread.join(5)


def metrics_at(path: Path, info: ModelInfo) -> TritonMetrics:
    own = OwnTriton()
    own.announce(Place("unix:/none", path, info))
    return TritonMetrics(own)


async def status_of(metrics: TritonMetrics) -> int:
    with pytest.raises(ApiError) as caught:
        await metrics.page()
    return caught.value.status


async def test_page_is_passed_on(tmp_path, info):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE)
    with answering(tmp_path / "s", head + PAGE):
        assert await metrics_at(tmp_path / "s", info).page() == PAGE


async def test_triton_of_another_server_is_404():
    assert await status_of(TritonMetrics(None)) == 404


async def test_triton_that_is_down_or_fails_is_503(tmp_path, info):
    assert await status_of(TritonMetrics(OwnTriton())) == 503
    assert await status_of(metrics_at(tmp_path / "missing", info)) == 503
    with answering(tmp_path / "s", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"):
        assert await status_of(metrics_at(tmp_path / "s", info)) == 503


async def test_triton_metrics_require_a_key(serve):
    async with serve() as api:
        assert (
            await api.http.get("/metrics/triton", headers={"authorization": ""})
        ).status_code == 401
        assert (await api.http.get("/metrics/triton")).status_code == 404
