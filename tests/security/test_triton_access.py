"""Ways into Triton beside the API: its ports, its control channel, its memory, its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from bench.lib.ports import free_ports
from cli.run.triton_token import VARIABLE
from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.errors import ServerError
from pipeline.families import SamplingParams
from pipeline.settings import StageSettings
from tests.security.as_nobody import as_nobody
from tests.waiting import wait_for

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a token of this test"
SECRETS = {
    "TRITON_VIDEO_API_KEYS": "sk-canary-1",
    "TRITON_VIDEO_DATABASE_URL": "postgresql://user:canary-2@host/name",
    "TRITON_VIDEO_WEBHOOK_SECRET": "whsec_canary-3",
    "HF_TOKEN": "canary-4",
    "NVIDIA_API_KEY": "canary-5",
    "AWS_SECRET_ACCESS_KEY": "canary-6",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary-7",
}
CONFIG = '{"backend": "python", "max_batch_size": 0, "instance_group": [{"kind": "KIND_CPU"}]}'
MODEL = "open({!r}, 'w')\nclass TritonPythonModel:\n    def execute(self, requests): return []\n"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        with EmbeddedServer(repository) as started:
            yield started


class Alone:
    """``triton-video triton`` on TCP, as a fleet runs it."""

    def __init__(self, repository: Path, folder: Path):
        self.http, self.grpc, metrics = free_ports(3)
        words = [
            sys.executable,
            "-m",
            "cli",
            "triton",
            "--model-repository",
            str(repository),
            "--host",
            "0.0.0.0",
        ]
        words += [
            "--http-port",
            str(self.http),
            "--grpc-port",
            str(self.grpc),
            "--metrics-port",
            str(metrics),
        ]
        self.log = folder / "log"
        with self.log.open("w") as log:
            environment = {**os.environ, VARIABLE: TOKEN}
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def post(self, path: str, body: object, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def client(self, token: str | None) -> VideoClient:
        return VideoClient(f"127.0.0.1:{self.grpc}", token=token)


@pytest.fixture(scope="module")
def alone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    started = Alone(repository, tmp_path_factory.mktemp("alone"))

    def ready() -> bool:
        # Triton opens its HTTP port after that of gRPC.
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{started.http}/v2/health/ready").close()
        except urllib.error.URLError:
            return False
        return True

    try:
        wait_for(ready, 60)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(20)


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.attack(
    "`generate`, `serve`: load a model with the attacker's Python through Triton's ports, as "
    "another local user or "
    "as a web page",
    "the Python ran as the server's user",
)
def test_the_embedded_triton_cannot_be_reached(server, after):
    listening = [
        connection.laddr
        for process in family(server.pid)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == []
    connect = (
        "import socket, sys\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except OSError as e: print(e)"
    )
    refused = as_nobody(connect, server.grpc_url.removeprefix("unix:"))
    assert refused == "[Errno 13] Permission denied"
    after(f"no process of the server listens on TCP; its socket: {refused}")


@pytest.mark.attack(
    "`triton` on TCP: POST /v2/repository/models/x/load with a `file:` parameter, as text/plain "
    "with a foreign Origin",
    "the Python ran as the server's user",
)
def test_no_model_can_be_loaded_over_http(alone, tmp_path, after):
    parameters = {"config": CONFIG, "file:1/model.py": MODEL.format(str(tmp_path / "ran"))}
    headers = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
    for path in ("/v2/repository/models/x/load", "/v2/repository/models/dit/unload"):
        status, answer = alone.post(path, {"parameters": parameters}, **headers)
        assert status >= 400, answer
    assert not (tmp_path / "ran").exists()
    after(f"status {status}, nothing ran")


@pytest.mark.attack(
    "`triton` on TCP: the same over gRPC, also with the secret in its command line",
    "the Python ran as the server's user",
)
def test_no_model_can_be_loaded_over_grpc(alone, tmp_path, after):
    (command,) = [
        process.cmdline()
        for process in family(alone.process.pid)
        if process.cmdline()[0].endswith("/tritonserver")
    ]
    (secret,) = [
        word.rpartition("=")[2] for word in command if word.startswith("--grpc-restricted-protocol")
    ]
    files = {"file:1/model.py": MODEL.format(str(tmp_path / "ran")).encode()}
    seen = []
    with triton.InferenceServerClient(f"127.0.0.1:{alone.grpc}") as client:
        for headers in ({}, {"triton-grpc-protocol-triton-video": secret}):
            with pytest.raises(InferenceServerException) as caught:
                client.load_model("x", headers=headers, config=CONFIG, files=files)
            seen.append(caught.value.message())
    assert "load / unload is not allowed" in seen[1]
    assert not (tmp_path / "ran").exists()
    after("refused without the secret; with it, model control is off; nothing ran")


@pytest.mark.attack(
    "`triton` on TCP: register shared memory, change logging or tracing",
    "accepted, from every user and web page",
)
def test_restricted_apis_are_closed(alone, after):
    for path, body in (
        ("/v2/systemsharedmemory/region/x/register", {"key": "/x", "offset": 0, "byte_size": 64}),
        ("/v2/logging", {"log_verbose_level": 9}),
        ("/v2/trace/setting", {"trace_level": ["TENSORS"]}),
    ):
        status, answer = alone.post(path, body)
        assert status == 403, (path, answer)
    after("status 403 for each")


@pytest.mark.attack(
    "`triton` on TCP: list and cancel other users' jobs through the model `control`", "done"
)
def test_control_needs_its_token(alone, after):
    for token in (None, "a token of another"):
        with (
            alone.client(token) as client,
            pytest.raises(ServerError, match="token: missing or wrong") as caught,
        ):
            client.status()
    with alone.client(TOKEN) as client:
        assert set(client.status()) == {"dit", "vae_decoder"}
    after(str(caught.value).partition("message: ")[2])


def test_inference_stays_open_to_any_triton_client(alone):
    with alone.client(None) as client:
        params = SamplingParams(prompt="a red circle", num_inference_steps=2)
        assert isinstance(list(client.generate(params))[-1], Video)


def test_open_address_logs_what_it_exposes(alone):
    assert "anyone who can reach ports" in alone.log.read_text()


@pytest.mark.attack(
    "read the API keys, the database's password and tokens in the environment of a stage",
    "all of them were there",
)
def test_stages_have_no_secret_in_their_environment(server, after):
    processes = family(server.pid)
    assert len(processes) > 5
    for process in processes:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"canary" not in environment
    after(f"none of {len(SECRETS)} secrets in {len(processes)} processes")


@pytest.mark.attack(
    "read prompts and latents in Triton's shared memory as another user", "regions had mode 0644"
)
def test_shared_memory_is_closed_to_others(server, after):
    regions = list(Path("/dev/shm").glob(f"{server.log_path.parent.name}-*"))
    assert len(regions) >= 5
    read = "for name in sys.argv[1:]:\n try: open(name)\n except OSError as e: print(e.strerror)"
    assert set(as_nobody(read, *map(str, regions)).splitlines()) == {"Permission denied"}
    after(f"{len(regions)} regions: Permission denied")


@pytest.mark.attack(
    "take the name of a stage's control socket first, or connect to it, as another user", "possible"
)
def test_control_sockets_are_out_of_reach(server, after):
    folder = server.log_path.parent / "control"
    assert {path.name for path in folder.iterdir()} >= {"dit", "vae_decoder", "control"}
    program = (
        "for act in ('bind', 'connect'):\n"
        " try: getattr(socket.socket(socket.AF_UNIX), act)(sys.argv[1])\n except OSError as e: "
        "print(e.strerror)"
    )
    assert as_nobody(program, str(folder / "dit")).splitlines() == ["Permission denied"] * 2
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    assert not [
        name for name in names if name.startswith("@triton-video/") and f"-{server.pid}/" in name
    ]
    after("the sockets are files of a folder with mode 0700")


def test_cancel_reaches_a_stage_over_the_private_sockets(server):
    with VideoClient(server.grpc_url) as client:
        assert client.cancel("none")["dit"] == {"running": None}


@pytest.mark.attack(
    "a cache, a checkpoint or a TMPDIR with a space or a letter beyond ASCII", "no start for 600 s"
)
def test_paths_may_have_spaces_and_non_ascii_letters(
    patch_checkpoint, cache, tmp_path, monkeypatch, after
):
    place = tmp_path / "a $b" / "Bücher 漢"
    place.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(patch_checkpoint), str(place / "model ü")], check=True)
    subprocess.run(["cp", "-al", str(cache), str(place / "cache")], check=True)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("LANG", "C")
    checkpoint = Checkpoint.open(place / "model ü")
    settings = StageSettings(checkpoint=str(checkpoint.path))
    repository = prepare_repository(checkpoint, settings, lambda message: None, place / "cache")
    with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as client:
        params = SamplingParams(prompt="a réd circle", num_inference_steps=2)
        assert isinstance(list(client.generate(params))[-1], Video)
    after("a video was made")
