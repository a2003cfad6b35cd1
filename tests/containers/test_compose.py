"""The stack of docker-compose.yml on the host's network, called by OpenAI's own client."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import openai
import pytest

from pipeline.triton.metric_names import METRICS
from tests.containers.docker import Docker
from tests.deploy.test_observability import TRITONS

pytestmark = [
    pytest.mark.containers,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]
ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "deploy/compose/host.yml", "tests/containers/compose.test.yml")
DATABASE_IMAGE = "triton-video-postgres:test"
PORTS = ("", "HTTP_", "GRPC_", "METRICS_", "DATABASE_")
LONG = {"num_inference_steps": 200, "num_frames": 49}  # much more than what follows it
MEDIUM = {"num_inference_steps": 60, "num_frames": 49}  # seconds, also on a quick machine


class Stack:
    """The services, under a project name of their own."""

    def __init__(self, docker: Docker, folder: Path, cache: Path):
        self.docker, self.project = docker, f"test{secrets.token_hex(4)}"
        self.keys = {
            name: secrets.token_hex(16)
            for name in ("api_keys", "database_password", "triton_token")
        }
        for name, value in self.keys.items():
            (folder / name).write_text(value + "\n")
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
            ports = {
                f"TRITON_VIDEO_{n}PORT": str(s.getsockname()[1])
                for n, s in zip(PORTS, opened, strict=True)
            }
        self.url = f"http://127.0.0.1:{ports['TRITON_VIDEO_PORT']}"
        self.environment = {
            **os.environ, **ports, "TRITON_VIDEO_SECRETS": str(folder), "TEST_CACHE": str(cache),
            "TRITON_VIDEO_DATABASE_IMAGE": DATABASE_IMAGE,
        }  # fmt: skip

    def compose(self, *words: str) -> str:
        files = [word for file in FILES for word in ("-f", file)]
        ended = subprocess.run(
            ["docker-compose", "-p", self.project, *files, *words], cwd=ROOT, env=self.environment,
            capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        if ended.returncode:
            pytest.fail(f"docker-compose {words[0]}: {ended.stderr}\n{self.docker('ps', '--all')}")
        return ended.stdout

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service).strip()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        pytest.fail(f"not ready: {self.compose('logs', '--tail', '20')}")


@pytest.fixture(scope="module")
def stack(
    docker: Docker, seeded_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    if shutil.which("docker-compose") is None or not docker("images", "--quiet", DATABASE_IMAGE):
        pytest.skip(
            "docker-compose, or the image of a database for the tests, is missing (make containers)"
        )
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o755)
    stack = Stack(docker, folder, seeded_cache)
    try:
        stack.compose("up", "--detach")
        stack.wait_until_ready()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")
    label = f"label=com.docker.compose.project={stack.project}"
    assert docker("ps", "--all", "--quiet", "--filter", label) == ""
    assert docker("volume", "ls", "--quiet", "--filter", label) == ""


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=stack.keys["api_keys"], base_url=f"{stack.url}/v1", max_retries=0
    ) as client:
        yield client


def begun(client: openai.OpenAI, prompt: str, size: dict[str, int]) -> str:
    """The id of a video that is being made."""
    job = client.videos.create(prompt=prompt, extra_body=size)
    deadline = time.monotonic() + 60
    while client.videos.retrieve(job.id).progress < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job.id


def test_the_sdk_creates_polls_and_downloads(client: openai.OpenAI, tmp_path: Path) -> None:
    made = client.videos.create_and_poll(prompt="a red circle moves right", poll_interval_ms=100)
    assert (made.status, made.error) == ("completed", None)
    client.videos.download_content(made.id).write_to_file(tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes()[4:8] == b"ftyp"


def test_request_without_a_key_is_refused(stack: Stack) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="wrong", base_url=f"{stack.url}/v1", max_retries=0).videos.list()


def test_a_deleted_video_frees_the_device(client: openai.OpenAI) -> None:
    """Cancelling goes by sockets of the container's own processes."""
    client.videos.delete(begun(client, "deleted", LONG))
    begin = time.monotonic()
    client.videos.create_and_poll(
        prompt="next", poll_interval_ms=50, extra_body={"num_inference_steps": 2}
    )
    assert time.monotonic() - begin < 15, (
        "the next one does not wait for the deleted one's 200 steps"
    )


def test_dead_triton_is_restarted_and_the_video_completes(
    stack: Stack, client: openai.OpenAI
) -> None:
    # Its first process, from outside: what `docker kill` ends is not started again.
    pid = int(stack.docker("inspect", "--format", "{{.State.Pid}}", stack.container("triton")))
    job = begun(client, "triton dies", MEDIUM)
    os.kill(pid, signal.SIGKILL)
    ended = client.videos.poll(job, poll_interval_ms=200)
    assert (ended.status, ended.error) == ("completed", None)


def test_killed_workers_job_is_taken_over(stack: Stack, client: openai.OpenAI) -> None:
    worker = stack.container("worker")
    job = begun(client, "worker dies", MEDIUM)
    stack.docker("kill", worker)
    stack.compose("up", "--detach", "worker")
    ended = client.videos.poll(job, poll_interval_ms=200)
    assert (ended.status, ended.error) == ("completed", None)


def test_triton_exports_the_metrics_that_the_dashboard_shows(stack: Stack) -> None:
    page = httpx.get(
        f"http://127.0.0.1:{stack.environment['TRITON_VIDEO_METRICS_PORT']}/metrics"
    ).text
    assert set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)) >= TRITONS | {
        metric.name for metric in METRICS
    }


def test_secrets_are_files_and_in_no_environment(stack: Stack) -> None:
    for service in ("triton", "database", "proxy", "worker"):
        told = stack.docker("inspect", stack.container(service))
        assert not [name for name, value in stack.keys.items() if value in told]


def test_services_have_few_privileges(stack: Stack) -> None:
    words = (
        "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} "
        "{{.HostConfig.SecurityOpt}} {{.Config.User}}"
    )
    for service in ("triton", "proxy", "worker"):
        told = stack.docker("inspect", "--format", words, stack.container(service))
        assert told == "true [ALL] [no-new-privileges:true] 1000:1000"
