"""The application in this process over HTTP without a socket, in front of a fake Triton."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from pipeline.client import Preview, Progress, StageFault, Stages, Video
from pipeline.errors import ServerError
from pipeline.families import Inputs, ModelInfo, SamplingParams, VideoRequest
from pipeline.media.input_video import probe
from pipeline.media.reference_image import decode
from proxy.app import Application, create_app
from proxy.service import Service
from proxy.settings import ProxySettings
from tests.proxy.postgres import Postgres
from tests.proxy.s3 import Bucket
from tests.waiting import async_wait_for

SHAPES = Path(__file__).resolve().parents[2] / "models" / "shapes"
# On SQLite and a local folder, and on PostgreSQL and S3.
on_both = pytest.mark.parametrize("stores", ["host", "fleet"], indirect=True)
ERROR_KEYS = {"message", "type", "param", "code"}
MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 8
THUMBNAIL, SPRITESHEET = b"RIFF....WEBP thumbnail", b"RIFF....WEBP spritesheet, which is larger"


@dataclass
class FakeTriton:
    """A Triton that makes a video in ``steps`` steps, each of which waits for ``gate``.

    ``failure`` is raised in the middle of a stream. ``preview`` follows each step.
    """

    info: ModelInfo
    url: str = "unused:1"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    up: bool = True
    failure: Exception | None = None
    made: list[str] = field(default_factory=list)
    inputs: list[Inputs] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    reloaded: list[str] = field(default_factory=list)
    faults: dict[str, StageFault] = field(default_factory=dict)
    steps: int = 3
    peak_memory_bytes: int | None = None
    preview: bytes | None = None
    mp4: Callable[[str], bytes] = lambda prompt: MP4

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def images(self) -> list[bytes | None]:
        """The reference images of the videos that were made."""
        return [each.image for each in self.inputs]

    async def __aenter__(self) -> FakeTriton:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def status(self) -> Stages:
        if not self.up:
            raise ServerError("down")
        return {"dit": StageFault.DEAD if "dit" in self.dead else self.elsewhere, **self.faults}

    async def reload(self, stage: str) -> None:
        self.dead.discard(stage)
        self.reloaded.append(stage)

    async def model_info(self) -> ModelInfo:
        return self.info

    async def generate(
        self,
        params: SamplingParams,
        *,
        inputs: Inputs,
        return_frames: bool,
        job_id: str,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Progress | Preview | Video]:
        self.headers.append(dict(headers))
        finished = False
        try:
            for step in range(self.steps + 1):
                yield Progress("denoise", step, self.steps)
                if self.preview:
                    yield Preview(self.preview)
                await self.gate.wait()
            if self.failure:
                raise self.failure
            finished = True
            self.made.append(params.prompt)
            self.inputs.append(inputs)
            self.params.append(params)
            made = self.info.resolve(
                params,
                image=None if inputs.image is None else decode(inputs.image).size,
                last_frame=inputs.last_frame is not None,
                video=None if inputs.video is None else probe(inputs.video),
            )
            made = made.model_copy(update={"peak_memory_bytes": self.peak_memory_bytes})
            frames = frames_of(made) if return_frames else None
            yield Video(self.mp4(params.prompt), THUMBNAIL, SPRITESHEET, made, frames)
        finally:
            if not finished:
                self.stopped.append(params.prompt)


def frames_of(made: VideoRequest) -> np.ndarray:
    """Return noise of the request's size, a different one for each seed."""
    shape = (made.total_frames, made.height, made.width, 3)
    return np.random.default_rng(made.seed).integers(0, 256, shape, np.uint8)


@dataclass
class Api:
    """A client with a key, and the fake Triton behind the server."""

    http: httpx.AsyncClient
    triton: FakeTriton
    app: Application

    @property
    def service(self) -> Service:
        return self.app.context.service

    async def create(self, **body: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/videos", json={"prompt": "a red circle", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def lose_triton(self) -> None:
        """Stop the fake Triton, and return once the server sends it no more jobs."""
        self.triton.up = False
        await async_wait_for(
            lambda: not any(each.healthy for each in self.service.tritons._all), 10
        )

    async def wait(self, video_id: str, *statuses: str) -> dict[str, Any]:
        """Return the video once it has one of the statuses."""

        async def reached() -> dict[str, Any] | None:
            video = (await self.http.get(f"/v1/videos/{video_id}")).json()
            return video if video["status"] in (statuses or ("completed", "failed")) else None

        return await async_wait_for(reached, 10)


@pytest.fixture
def info() -> ModelInfo:
    from pipeline.checkpoint.folder import Checkpoint

    return Checkpoint.open(SHAPES).info


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.jobs.database.SYNCHRONOUS", "OFF")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server per session; a test that stops it starts it again."""
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[Bucket]:
    bucket = Bucket()
    yield bucket
    bucket.close()


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.fixture
def s3_folder(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store; its credentials are in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_folder()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on each kind."""
    return (
        f"sqlite:///{tmp_path}/jobs"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_database")
    )


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each kind."""
    return (
        f"file://{tmp_path}/videos"
        if request.param == "local"
        else request.getfixturevalue("s3_folder")
    )


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings for SQLite and a folder, or with the parameter "fleet" for PostgreSQL and S3."""
    if getattr(request, "param", "host") == "host":
        return {}
    return {
        "database_url": request.getfixturevalue("postgres_database"),
        "store_url": request.getfixturevalue("s3_folder"),
    }


Opener = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def serve(
    tmp_path: Path, info: ModelInfo, monkeypatch: pytest.MonkeyPatch, stores: dict[str, str]
) -> Opener:
    """Opens the application: ``async with serve(max_queued=1) as api``.

    Each opening has its own fake Triton.
    """
    monkeypatch.setattr("proxy.worker.HEARTBEAT_S", 0.02)
    monkeypatch.setattr("proxy.worker.POLL_S", 0.05)
    monkeypatch.setattr("proxy.tritons.CHECK_INTERVAL_S", 0.02)
    monkeypatch.setattr("proxy.tritons.JITTER_S", 0)
    monkeypatch.setattr("proxy.tritons.FIRST_PAUSE_S", 0.02)

    @asynccontextmanager
    async def opened(
        *,
        keys: tuple[str, ...] = ("key-a", "key-b"),
        webhook_secret: str | None = None,
        **settings: Any,
    ) -> AsyncIterator[Api]:
        triton = FakeTriton(info)
        monkeypatch.setattr("proxy.tritons.AsyncVideoClient", lambda url, token: triton)
        chosen = {"disk_reserve_bytes": 16 << 20, **stores, **settings}  # hundreds are on one disk
        checked = ProxySettings(data_path=tmp_path / "data", **chosen)
        app = create_app(checked, ["unused:1"], keys, webhook_secret)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"authorization": "Bearer key-a"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http,
        ):
            await async_wait_for(lambda: app.context.service.tritons.models)
            yield Api(http, triton, app)

    return opened


@pytest.fixture
async def api(serve: Opener) -> AsyncIterator[Api]:
    """The application with the default settings."""
    async with serve() as opened:
        yield opened
