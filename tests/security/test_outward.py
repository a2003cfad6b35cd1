"""What the server reaches out to may be hostile: hubs, receivers of webhooks, hosts of pictures, Tritons."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2 as httpx
import pytest
from huggingface_hub import constants

from pipeline import hub_client
from pipeline.client import Progress, Video, VideoClient, answers, messages
from pipeline.client import aio as aio_client
from pipeline.client import blocking as blocking_client
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import CheckpointError, GenerationError, InputError, ServerError, TritonVideoError
from pipeline.hub import locate
from pipeline.redaction import without_credentials
from pipeline.spec import ModelInfo, SamplingParams
from proxy import outbound
from proxy.app import create_app
from proxy.outbound import BodyTooLarge, outbound_client
from proxy.settings import ProxySettings
from tests.conftest import ROOT, SHAPES
from tests.pipeline.hub_server import COMMIT, Hub, _Handler
from tests.security.hostile_triton import (
    MP4,
    WEBP,
    Behaviour,
    Response,
    blob,
    hostile,
    made,
    progress,
    tensors,
    video,
)

Report = Callable[[str], None]
SECRET = "hunter2-secret"
NAME = Path("acme/evil")


def run(coroutine: Coroutine[Any, Any, Any], limit_s: float = 30) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, limit_s))


def text(value: bytes) -> tuple[str, list[int], bytes]:
    return "BYTES", [1], blob(value)


# --- A hostile Triton -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _short_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_client, "DRAIN_S", 0.3)
    monkeypatch.setattr(blocking_client, "DRAIN_S", 0.3)


async def generated(url: str) -> list[Progress | Video]:
    async with AsyncVideoClient(url) as client:
        return [event async for event in client.generate(SamplingParams(prompt="x"), job_id="1")]


def generated_blocking(url: str) -> list[Progress | Video]:
    with VideoClient(url) as client:
        return list(client.generate(SamplingParams(prompt="x")))


def silent(context: Any) -> Iterator[Any]:
    while context.is_active():
        time.sleep(0.05)
    yield from ()


def endless(response: Any) -> Callable[[Any], Iterator[Any]]:
    def stream(context: Any) -> Iterator[Any]:
        while context.is_active():
            yield response

    return stream


def nan() -> bytes:
    return made().replace(b'"guidance_scale": 1.0', b'"guidance_scale": NaN')


MALFORMED = {
    "no RESULT": [tensors(VIDEO=text(MP4))],
    "RESULT is not JSON": [video(RESULT=text(b"{"))],
    "RESULT is huge": [video(RESULT=text(b" " * 100_000))],
    "a height of 10^30": [video(RESULT=text(made(height=10**30)))],
    "guidance that is no number": [video(RESULT=text(nan()))],
    "VIDEO of floats": [video(VIDEO=("FP32", [1], b"abcd"))],
    "VIDEO is HTML": [video(VIDEO=text(b"<html><script>"))],
    "VIDEO of 10,000 strings": [video(VIDEO=("BYTES", [10_000], blob(*[b""] * 10_000)))],
    "THUMBNAIL of a length of 4 GB": [video(THUMBNAIL=("BYTES", [1], b"\xff\xff\xff\xffRIFF"))],
    "THUMBNAIL of another shape": [video(THUMBNAIL=("BYTES", [7], blob(WEBP)))],
    "THUMBNAIL without a shape": [video(THUMBNAIL=("BYTES", [], blob(WEBP)))],
    "THUMBNAIL of an unknown type": [video(THUMBNAIL=("QUX", [1], blob(WEBP)))],
    "SPRITESHEET is no WebP": [video(SPRITESHEET=text(b"RIFF\0\0\0\0WAVE"))],
    "FRAMES of objects": [video(FRAMES=text(b"x"))],
    "FRAMES of another size": [video(FRAMES=("UINT8", [1, 1, 1, 3], b"abc"))],
    "progress of floats": [tensors(STAGE=text(b"denoise"), PROGRESS=("FP32", [2], struct.pack("<2f", 1, 2)))],
    "progress of three": [tensors(STAGE=text(b"denoise"), PROGRESS=("INT32", [3], bytes(12)))],
    "progress backwards": [progress(-(2**31), -1), video()],
    "progress past its end": [progress(3, 2), video()],
    "progress of two billion": [progress(1, 2**31 - 1), video()],
    "a stage with a name of its own": [progress(1, 2, b"x" * 50), video()],
    "a stage that is not UTF-8": [progress(1, 2, b"\xff"), video()],
    "no stage": [tensors(PROGRESS=("INT32", [2], bytes(8)))],
    "progress of 1 MB": [tensors(STAGE=text(bytes(1 << 20)), PROGRESS=("INT32", [2], bytes(8)))],
    "1 MB of nothing": [tensors(NOISE=text(bytes(1 << 20)))],
    "an end without a video": [],
}


@pytest.mark.attack(
    "a hostile Triton sends malformed tensors",
    "ValidationError, IndexError, struct.error out of the client; HTML stored as MP4; NaN and 10^30 taken",
)
def test_malformed_answers_are_errors_of_ours(after: Report) -> None:
    for name, responses in MALFORMED.items():
        with hostile(Behaviour(stream=lambda _, each=responses: iter(each))) as url:
            with pytest.raises(TritonVideoError) as caught:
                run(generated(url))
            assert isinstance(caught.value, GenerationError | ServerError), name
    after(f"{len(MALFORMED)} kinds are a GenerationError or ServerError")


def test_the_blocking_client_reads_the_same() -> None:
    for name in ("RESULT is not JSON", "progress backwards", "an end without a video"):
        behaviour = Behaviour(stream=lambda _, each=MALFORMED[name]: iter(each))
        with hostile(behaviour) as url, pytest.raises((GenerationError, ServerError)):
            generated_blocking(url)


def test_a_good_answer_is_taken() -> None:
    with hostile(Behaviour(stream=lambda _: iter([progress(1, 1), video()]))) as url:
        for events in (run(generated(url)), generated_blocking(url)):
            assert [type(event) for event in events] == [Progress, Video]
            assert (events[1].mp4, events[1].thumbnail, events[1].request.height) == (MP4, WEBP, 16)


@pytest.mark.attack("a hostile Triton sends progress for ever", "read until the job's timeout of an hour")
def test_endless_progress_ends(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_RESPONSES", 200)
    with hostile(Behaviour(stream=endless(progress(1, 2)))) as url:
        for generate in (lambda: run(generated(url)), lambda: generated_blocking(url)):
            with pytest.raises(answers.MalformedAnswerError, match="more than 200 responses"):
                generate()
    after("an error after 20,000 responses")


@pytest.mark.attack(
    "a hostile Triton sends a video and never ends the stream",
    "the video was lost at the job's timeout; the command line hung for ever",
)
def test_a_stream_that_does_not_end_keeps_no_video_back(after: Report) -> None:
    def stream(context: Any) -> Iterator[Any]:
        yield video()
        yield from silent(context)

    with hostile(Behaviour(stream=stream)) as url:
        began = time.monotonic()
        assert isinstance(run(generated(url))[-1], Video)
        assert isinstance(generated_blocking(url)[-1], Video)
        assert time.monotonic() - began < 10
    after("the video is kept after 20 s (5 s for the command line)")


@pytest.mark.attack("a hostile Triton sends a video of 10 GB", "2 GiB a message, any number of them kept in memory")
def test_a_huge_video_is_refused(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_client, "MAX_RESPONSE_BYTES", 1 << 20)
    huge = video(VIDEO=text(MP4 + bytes(2 << 20)))
    with hostile(Behaviour(stream=endless(huge))) as url, pytest.raises(ServerError) as caught:
        run(generated(url))
    assert "RESOURCE_EXHAUSTED" in (caught.value.details or "")
    after("gRPC refuses a message of more than 512 MiB; 4 unread ones at most")


@pytest.mark.attack("a hostile Triton's error forges lines of the log", "any text of any length, escape codes too")
def test_an_error_is_one_short_line(after: Report) -> None:
    error = Response(error_message="\x1b[2J\nERROR forged " + "x" * 1_000_000)
    with hostile(Behaviour(stream=lambda _: iter([error]))) as url, pytest.raises(GenerationError) as caught:
        run(generated(url))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2100
    after("one printable line of 2,000 characters")


CONTROL = [
    b"", b"[]", b"{", b'{"dit": 1}', b'{"dit": {}}', b'{"dit": {"jobs": [[1]]}}', b"[" * 100_000,
    b'{"dit": {"error": {}}}', json.dumps({str(i): {"jobs": {}} for i in range(65)}).encode(),
]  # fmt: skip


@pytest.mark.attack("a hostile Triton's control model answers garbage", "the whole server ended")
def test_garbage_of_the_control_model_ends_no_server(
    after: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.tritons.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("proxy.tritons.LONGEST_PAUSE_S", 0.02)
    behaviour = Behaviour(model=info().model_dump_json())
    settings = ProxySettings(data_path=tmp_path / "data")

    async def scenario(url: str) -> None:
        app = create_app(settings, [url], ["key"])
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            for answer in CONTROL:
                behaviour.control = answer
                await asyncio.sleep(0.1)
                assert (await client.get("/readyz")).status_code == 503
            behaviour.control = b'{"dit": {"jobs": {}}}'
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            assert info().name in app.state.service.tritons.models

    with hostile(behaviour) as url:
        run(scenario(url))
    after("not ready until it answers well")


def info() -> ModelInfo:
    from pipeline.checkpoint import Checkpoint

    return Checkpoint.open(SHAPES).info


@pytest.mark.parametrize("model", ["", "{", "x" * 300_000, '{"name": "a"}'])
def test_a_description_that_is_none(model: str) -> None:
    async def scenario(url: str) -> None:
        async with AsyncVideoClient(url) as client:
            await client.model_info()

    with hostile(Behaviour(model=model)) as url, pytest.raises(ServerError, match="does not describe itself"):
        run(scenario(url))


# --- Hosts of pictures, and receivers of webhooks ---------------------------------------------------

Write = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def site(write: Write) -> AsyncIterator[str]:
    """The address of a web server on loopback that answers with ``write``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await write(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def bomb(mebibytes: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(mebibytes)) + squeeze.flush()


@pytest.mark.attack(
    "image_url leads to a compressed bomb", "decompressed past the bound of 20 MiB: 0.6 MB took 1.2 GB of memory"
)
def test_a_compressed_answer_is_not_read(after: Report) -> None:
    for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        refuse_compressed(encoding)
    after("refused unread")


def refuse_compressed(encoding: str) -> None:
    data = bomb(64)

    async def write(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    async def scenario() -> None:
        async with site(write) as url, outbound_client(allow_private=True, timeout_s=10) as client:
            with pytest.raises(httpx.DecodingError):
                await client.get(url)
            # A webhook's receiver may compress: its status counts, its body is not read.
            async with client.stream("POST", url, content=b"{}") as answer:
                assert answer.status_code == 200

    run(scenario())


@pytest.mark.attack("image_url leads to a body in pieces of one byte", "the event loop stood still for 0.8 s, for 20 s")
def test_a_body_in_tiny_pieces_does_not_stop_the_loop(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MAX_PIECES", 15_000)

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n" * 10_000)
            await writer.drain()

    async def turns() -> None:
        while True:
            counted.append(time.monotonic())
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with site(write) as url, outbound_client(allow_private=True, timeout_s=20) as client:
            task = asyncio.create_task(turns())
            with pytest.raises(BodyTooLarge, match="pieces"):
                await client.get(url)
            task.cancel()

    counted: list[float] = []
    run(scenario())
    assert len(counted) > 15_000 / outbound.PIECES_AT_A_TIME
    after("others have a turn every 64 pieces; refused after 40,000")


@pytest.mark.attack("names of image_url that no name server answers", "all threads of the event loop waited for them")
def test_slow_names_leave_threads_for_others(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        time.sleep(0.6)
        raise OSError("no answer")

    async def scenario() -> None:
        monkeypatch.setattr("socket.getaddrinfo", slow)
        async with outbound_client(allow_private=True, timeout_s=0.2) as client:
            tries = [asyncio.create_task(client.get(f"http://slow-{i}.test/")) for i in range(20)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            assert await asyncio.to_thread(lambda: 42) == 42
            assert time.monotonic() - began < 0.3
            results = await asyncio.gather(*tries, return_exceptions=True)
            assert all(isinstance(result, httpx.HTTPError) for result in results)
            assert len(asked) == outbound.LOOKUPS_AT_A_TIME

    run(scenario())
    after("3 look-ups at a time")


# --- A hostile hub ----------------------------------------------------------------------------------


@pytest.fixture
def other() -> Iterator[tuple[str, list[str | None]]]:
    """Another host (by name), and the credentials that it is sent."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the parent's name

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}", seen
        server.shutdown()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[_Handler]], Hub]]:
    """Starts a hub that answers by the handler it is given, and has huggingface_hub use it."""
    servers: list[ThreadingHTTPServer] = []
    folder = tmp_path / "served"
    shutil.copytree(SHAPES, folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "deep" / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", f"hf_{SECRET}")

    def start(handler: type[_Handler]) -> Hub:
        hub = Hub(folder, str(NAME))
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub}))
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = hub.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return hub

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


class Named(_Handler):
    """Names files by headers that lead out of the cache."""

    etag, commit = '"' + "a" * 40 + '"', COMMIT

    def _file(self, file: Path) -> None:
        self._send(file.read_bytes(), {"X-Repo-Commit": self.commit, "ETag": self.etag})


class ByEtag(Named):
    etag = '"../../../../escaped"'


class ByCommit(Named):
    commit = "../../../../escaped"


class ByPath(_Handler):
    def _entries(self) -> list[dict[str, object]]:
        return [*map(self._entry, self._files()), {"type": "file", "path": self.path_out, "size": 5, "oid": "a" * 40}]

    path_out = "vae/../../../../../../escaped.json"

    def _answer(self) -> None:
        if "/tree/" in self.path:
            self._send(json.dumps(self._entries()).encode(), {})
        else:
            super()._answer()


@pytest.mark.attack("a hostile hub names files outside the cache", "an ETag wrote any file of the user")
def test_a_hub_writes_nothing_outside_its_cache(hub: Callable[..., Hub], tmp_path: Path, after: Report) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    for handler in (ByEtag, ByCommit, ByPath):
        hub(handler)
        before = files(tmp_path)
        with pytest.raises(CheckpointError):
            locate(NAME)
        assert {path for path in files(tmp_path) - before if not path.is_relative_to(cache)} == set()
    after("refused, nothing written")


class Endless(_Handler):
    """Sends the weights without an end."""

    def _file(self, file: Path) -> None:
        if self.command == "HEAD" or file.suffix != ".safetensors":
            super()._file(file)
            return
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.close_connection = True


@pytest.mark.attack("a hostile hub sends a file without an end", "written until the disk was full")
def test_a_hub_fills_no_disk(
    hub: Callable[..., Hub], tmp_path: Path, after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "MAX_LISTING_BYTES", 4 << 20)
    hub(Endless)
    with pytest.raises(CheckpointError, match="sends more than it announced"):
        locate(NAME)
    written = sum(path.stat().st_size for path in files(Path(constants.HF_HUB_CACHE)))
    assert written < 40 << 20
    after("an error 64 MiB past what it announced")


@pytest.mark.attack("a hostile hub's listing has no end", "asked for the next page for ever")
def test_a_hub_ends_its_listing(hub: Callable[..., Hub], after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pages(_Handler):
        def _answer(self) -> None:
            if "/tree/" in self.path:
                self._send(b"[]", {"Link": f'<{self.hub.url}{self.path}>; rel="next"'})
            else:
                super()._answer()

    monkeypatch.setattr(hub_client, "MAX_REQUESTS", 50)
    hub(Pages)
    with pytest.raises(CheckpointError, match="more than 50 requests"):
        locate(NAME)
    after("an error after 5,000 requests")


@pytest.mark.attack("a hub's listing continues at another host", "that host was sent HF_TOKEN")
def test_another_host_is_not_sent_the_token(
    hub: Callable[..., Hub], other: tuple[str, list[str | None]], after: Report
) -> None:
    address, seen = other

    class Elsewhere(_Handler):
        def _answer(self) -> None:
            tokens.add(self.headers.get("Authorization"))
            if "/tree/" in self.path:
                entries = json.dumps([self._entry(file) for file in self._files()]).encode()
                self._send(entries, {"Link": f'<{address}/next>; rel="next"'})
            else:
                super()._answer()

    tokens: set[str | None] = set()
    asked = hub(Elsewhere).asked
    locate(NAME)
    assert tokens == {f"Bearer hf_{SECRET}"}, "the hub itself is sent it"
    assert seen
    assert set(seen) == {None}
    assert not any("agent-harnesses" in line for line in asked)
    after("no token")


# --- Secrets in what the command line prints --------------------------------------------------------

URL = f"postgresql://user:{SECRET}@127.0.0.1:1/videos"


@pytest.mark.attack("passwords in URLs show in errors and tracebacks", "printed for S3, HF and Triton endpoints")
def test_no_error_shows_a_password(tmp_path: Path, after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://user:{SECRET}@127.0.0.1:1"
    s3 = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    serve = ["serve", "--triton-url", "127.0.0.1:1", "--data-path", str(tmp_path / "data")]
    cases: list[tuple[list[str], dict[str, str]]] = [
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL}),
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL.replace(":1/", ":port/")}),
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL.replace("postgresql", "mysql")}),
        (serve, {"TRITON_VIDEO_STORE_URL": "s3://bucket/prefix", **s3}),
        (serve, {"TRITON_VIDEO_STORE_URL": f"s3://id:{SECRET}@bucket/prefix"}),
        (serve, {"TRITON_VIDEO_WEBHOOK_URL": f"ftp://user:{SECRET}@host/?token={SECRET}"}),
        (["generate", "--prompt", "x"], {"TRITON_VIDEO_TRITON_URL": endpoint}),
        (["generate", "--prompt", "x"], {"TRITON_VIDEO_HEIGHT": URL}),
        (["config", "show", "serve"], {"TRITON_VIDEO_DATABASE_URL": URL}),
    ]
    for arguments, variables in cases:
        code = f"import sys; from cli.main import main; main({[*arguments, '-v'][: len(arguments) + 1]!r})"
        if arguments[0] == "config":
            code = code.replace(", '-v'", "")
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **variables}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
        )
        printed = done.stdout + done.stderr
        assert printed
        assert SECRET not in printed, (arguments, printed)
    after(f"{len(cases)} ways, with -v: none printed")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"PUT http://u:{SECRET}@h:1/b", "PUT http://***@h:1/b"),
        (f"({SECRET}) at http://{SECRET}@h and https://x:y@z", f"({SECRET}) at http://***@h and https://***@z"),
        ("https://hub/acme/name@main", "https://hub/acme/name@main"),
        ("a@b without a scheme", "a@b without a scheme"),
    ],
)
def test_credentials_of_urls(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_a_config_file_that_is_swapped_for_a_device() -> None:
    from cli.config_file import read_config

    with pytest.raises(InputError, match="too large"):
        read_config(Path("/dev/zero"))
