"""What Triton and the stages under it do to a video when they are killed or hang, with a job in
flight.

Each fault is a real signal to a real process. The server that `serve` starts is supervised; one
that runs elsewhere is not, and there the proxy gives the job up by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.lib.ports import free_ports
from cli.run.triton_token import VARIABLE
from cli.runtime.embedded import EmbeddedServer
from cli.runtime.endpoints import Sockets
from cli.runtime.stubs import stubs
from cli.runtime.supervisor import SupervisedServer
from pipeline.client import Progress, Video, VideoClient
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.families import SamplingParams
from tests.conftest import ROOT
from tests.e2e.program import Proxy
from tests.needs import exhaustive
from tests.security.processes import (
    OTHERS,
    alive,
    is_ready,
    ours,
    rank,
    regions,
    runs_in,
    settles,
    stub,
)
from tests.security.videos import Api
from tests.waiting import wait_for

HANG_S = 2
LONG: dict[str, Any] = {"prompt": "x", "num_inference_steps": 200, "num_frames": 49}
DECODED: dict[str, Any] = {
    "prompt": "x",
    "num_inference_steps": 1,
    "num_frames": 161,
    "size": "128x128",
}
DECODED_BY_TRITON = SamplingParams(
    prompt="x", num_inference_steps=1, num_frames=161, width=128, height=128
)
SHORT: dict[str, Any] = {"prompt": "x", "num_inference_steps": 2}

NEVER = "the job hung until --job-timeout-s (an hour)"
FAILED = "the job failed with backend_error"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def others() -> None:
    OTHERS.update(child.pid for child in ours())
    OTHERS.update(regions())


@pytest.fixture(scope="module")
def private_tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary directory of every process of this module."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def server(repository: Path, private_tmp: Path) -> Iterator[SupervisedServer]:
    with SupervisedServer(repository, hang_timeout_s=HANG_S) as started:
        yield started
    assert list(private_tmp.glob("triton-video*")) == []
    assert ours() == []
    assert regions() == []


@pytest.fixture(scope="module")
def api(server: SupervisedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A proxy that leaves what hangs to the server's supervisor."""
    folder = tmp_path_factory.mktemp("data")
    proxy = Proxy(server.grpc_url, folder)
    proxy.start()
    api = Api(proxy, folder)
    yield api
    api.close()
    proxy.stop()


@pytest.fixture
def hit(server: SupervisedServer, api: Api, private_tmp: Path) -> Callable[..., float]:
    """Sends a signal to a process while a job runs in a stage.

    The job must complete within the given number of attempts, the next one must work, and nothing
    may be left. Returns the seconds from the signal to the end of the job.
    """

    def hit(
        victim: Callable[[int], int], number: int, *, stage: str = "dit", attempts: int
    ) -> float:
        settles(server, private_tmp)
        job = api.create(DECODED if stage == "vae_decoder" else LONG)
        pid = victim(server.pid)
        runs_in(server, stage)
        os.kill(pid, number)
        began = time.monotonic()
        ended = api.ended(job)
        seconds = time.monotonic() - began
        # Triton never waits for a stub that died: a zombie is left, which holds nothing.
        wait_for(lambda: not alive(pid))
        assert (ended["status"], ended["error"]) == ("completed", None)
        assert api.attempts(job) == attempts
        assert api.ended(api.create(SHORT))["status"] == "completed"
        settles(server, private_tmp)
        return seconds

    return hit


VICTIMS: dict[str, Callable[[int], int]] = {
    "tritonserver": lambda server: server,
    "dit": lambda server: stub(server, "dit"),
    "rank": rank,
    "vae_decoder": lambda server: stub(server, "vae_decoder"),
}
STAGES = {"vae_decoder": "vae_decoder"}  # where the job is when its victim is hit; else in dit


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.attack("SIGKILL of what a job needs", f"rank: {FAILED}")
def test_killed_process_is_replaced_and_the_job_completes(
    hit: Callable[..., float], victim: str, after: Callable[[str], None]
) -> None:
    seconds = hit(VICTIMS[victim], signal.SIGKILL, stage=STAGES.get(victim, "dit"), attempts=2)
    after(f"{victim}: replaced; the job completes, {seconds:.0f} s later")


@pytest.mark.parametrize(
    "victim", ["tritonserver", exhaustive("dit"), "rank", exhaustive("vae_decoder")]
)
@pytest.mark.attack("SIGSTOP of what a job needs", NEVER)
def test_stopped_process_is_replaced_and_the_job_completes(
    hit: Callable[..., float], victim: str, after: Callable[[str], None]
) -> None:
    seconds = hit(VICTIMS[victim], signal.SIGSTOP, stage=STAGES.get(victim, "dit"), attempts=2)
    after(f"{victim}: killed and replaced; the job completes, {seconds:.0f} s later")


@pytest.mark.parametrize("stage", [exhaustive("tokenizer"), "text_encoder"])
@pytest.mark.attack("SIGSTOP of a stage that `control` does not ask", NEVER)
def test_stopped_stage_that_control_does_not_poll_is_replaced(
    server: SupervisedServer, api: Api, private_tmp: Path, stage: str, after: Callable[[str], None]
) -> None:
    stopped = stub(server.pid, stage)
    os.kill(stopped, signal.SIGSTOP)
    # A prompt that is not in Triton's cache; the second video would get an empty result that is.
    body = {**SHORT, "prompt": "a prompt of more words than those of all the other tests"}
    ended = [api.ended(api.create(body))["status"] for _ in range(2)]
    assert ended == ["completed"] * 2
    wait_for(lambda: not alive(stopped))
    settles(server, private_tmp)
    after(f"{stage}: killed and replaced; the job completes")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
@pytest.mark.attack(
    "SIGKILL and SIGSTOP of the control stub", "never reloaded: all later jobs stay queued for ever"
)
def test_control_stub_is_replaced_while_a_job_runs(
    server: SupervisedServer, hit: Callable[..., float], number: int, after: Callable[[str], None]
) -> None:
    tritonserver = server.pid
    hit(lambda server: stub(server, "control"), number, attempts=1)
    assert server.pid == tritonserver, "the server was not restarted for it"
    with VideoClient(server.grpc_url) as client:
        wait_for(lambda: client.stages() == {"dit": set(), "vae_decoder": set()}, 10)
    after(
        f"{signal.Signals(number).name}: replaced; the job in flight completes, the next one works"
    )


@pytest.mark.attack("a rank that gets no memory (RLIMIT_AS)", FAILED)
def test_rank_without_memory_fails_the_job_alone(
    server: SupervisedServer, api: Api, after: Callable[[str], None]
) -> None:
    process = psutil.Process(rank(server.pid))
    limit = process.memory_info().vms + (16 << 20)
    process.rlimit(psutil.RLIMIT_AS, (limit, limit))
    ended = api.ended(
        api.create({"prompt": "x", "num_inference_steps": 1, "size": "256x256", "num_frames": 161})
    )
    assert ended["error"]["code"] == "out_of_memory", ended
    assert api.ended(api.create(SHORT))["status"] == "completed"
    after(f"{ended['error']['code']}: {ended['error']['message']}")


@pytest.fixture(scope="module")
def unsupervised(repository: Path, private_tmp: Path) -> Iterator[EmbeddedServer]:
    """Takes the place of a Triton on another machine."""
    with EmbeddedServer(repository) as started:
        yield started


@pytest.fixture
def far(unsupervised: EmbeddedServer, tmp_path: Path) -> Iterator[Api]:
    """A proxy in front of it that gives jobs up after a short silence."""
    proxy = Proxy(unsupervised.grpc_url, tmp_path, "--hang-timeout-s", str(HANG_S))
    proxy.start()
    api = Api(proxy, tmp_path)
    yield api
    api.close()
    proxy.stop()


@pytest.mark.attack("SIGSTOP of a Triton elsewhere (--triton-url)", NEVER)
def test_proxy_requeues_the_job_of_a_remote_triton_that_hangs(
    unsupervised: EmbeddedServer, far: Api, after: Callable[[str], None]
) -> None:
    job = far.create(LONG)
    runs_in(unsupervised, "dit")
    os.kill(unsupervised.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: far.get(job)["status"] == "queued")
    finally:
        os.kill(unsupervised.pid, signal.SIGCONT)
    ended = far.ended(job)
    assert (ended["status"], ended["error"]) == ("completed", None)
    after("the job is queued again for any Triton that answers, and completes")


@pytest.mark.attack(
    "another client of Triton cancels a job", "backend_error, with an internal id in the message"
)
def test_cancellation_by_another_client_is_reported(
    unsupervised: EmbeddedServer, far: Api, after: Callable[[str], None]
) -> None:
    job = far.create(LONG)
    runs_in(unsupervised, "dit")
    with VideoClient(unsupervised.grpc_url) as other:
        (attempt,) = set().union(
            *(jobs for jobs in other.stages().values() if isinstance(jobs, set))
        )
        other.cancel(attempt)
    error = far.ended(job)["error"]
    assert error["code"] == "cancelled"
    assert attempt not in error["message"]
    assert job not in error["message"]
    after(f"{error['code']}: {error['message']}")


@pytest.mark.attack("SIGSTOP of tritonserver under `generate`", "hung for ever")
def test_client_reports_a_triton_that_hangs(
    unsupervised: EmbeddedServer, after: Callable[[str], None]
) -> None:
    began = time.monotonic()
    with VideoClient(unsupervised.grpc_url, hang_timeout_s=HANG_S) as client:
        stream = client.generate(SamplingParams(**LONG))
        next(stream)
        os.kill(unsupervised.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ServerError, match="has not answered for 2 s") as caught:
                list(stream)
        finally:
            os.kill(unsupervised.pid, signal.SIGCONT)
    assert time.monotonic() - began < 30
    after(str(caught.value).replace(unsupervised.grpc_url, "HOST:PORT"))


@pytest.mark.attack("SIGKILL of `vae_decoder` under `generate`", "-")
def test_client_reports_a_stage_that_died_with_its_job(
    unsupervised: EmbeddedServer, after: Callable[[str], None]
) -> None:
    """Triton itself never ends a request that a stub took and did not answer."""
    with VideoClient(unsupervised.grpc_url) as client:
        stream = client.generate(DECODED_BY_TRITON)
        next(stream)
        runs_in(unsupervised, "vae_decoder")
        os.kill(stub(unsupervised.pid, "vae_decoder"), signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ServerError, match="the stage vae_decoder") as caught:
            list(stream)
        seconds = time.monotonic() - began

    async def load_again() -> None:
        async with AsyncVideoClient(unsupervised.grpc_url) as loading:
            await loading.reload("vae_decoder")

    asyncio.run(load_again())
    assert seconds < 15
    after(f"{caught.value}, within 15 s".replace(unsupervised.grpc_url, "HOST:PORT"))


@pytest.mark.attack("SIGKILL of `vae_decoder` of a Triton elsewhere (--triton-url)", "-")
def test_proxy_requeues_the_job_of_a_remote_stage_that_died(
    unsupervised: EmbeddedServer, far: Api, after: Callable[[str], None]
) -> None:
    job = far.create(DECODED)
    runs_in(unsupervised, "vae_decoder")
    os.kill(stub(unsupervised.pid, "vae_decoder"), signal.SIGKILL)
    ended = far.ended(job)
    assert (ended["status"], ended["error"], far.attempts(job)) == ("completed", None, 2)
    after("the stage is loaded again, and the job completes")


@pytest.mark.attack("SIGKILL of `vae_decoder` under `triton-video triton`", "-")
def test_triton_restarts_the_server_of_a_stage_that_held_requests(
    repository: Path, tmp_path: Path, after: Callable[[str], None]
) -> None:
    """Also where model control is on, and a client may load the stage again."""
    tmp_path.chmod(0o700)
    command = [sys.executable, "-m", "cli", "triton", "--model-repository", str(repository), "-q"]
    sockets = Sockets(tmp_path)
    with (
        subprocess.Popen([*command, "--host", f"unix:{tmp_path}"], cwd=ROOT) as process,
        VideoClient(sockets.grpc_url) as client,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        wait_for(lambda: is_ready(client))
        stream = client.generate(DECODED_BY_TRITON)
        while next(stream) != Progress("decode", 1, 41):
            pass
        servers = psutil.Process(process.pid).children(recursive=True)
        (victim,) = (
            pid for each in servers for name, pid in stubs(each.pid) if name == "vae_decoder"
        )
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ServerError):
            list(stream)
        seconds = time.monotonic() - began
        wait_for(lambda: is_ready(client))
        assert isinstance(list(client.generate(SamplingParams(**SHORT)))[-1], Video)
    assert seconds < 15
    after(f"the request fails {seconds:.0f} s later, and the next one works")


@pytest.fixture
def load() -> Iterator[None]:
    """Twice as many busy processes as there are cores."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


@pytest.mark.usefixtures("load")
@pytest.mark.attack("long steps and a long decoding on an overloaded machine", "-")
def test_busy_processes_are_not_replaced(
    server: SupervisedServer,
    api: Api,
    far: Api,
    unsupervised: EmbeddedServer,
    after: Callable[[str], None],
) -> None:
    before = (
        sorted(stubs(server.pid)),
        sorted(stubs(unsupervised.pid)),
        rank(server.pid),
        rank(unsupervised.pid),
    )
    jobs = [(proxy, proxy.create({**DECODED, "size": "256x256"})) for proxy in (api, far)]
    began = time.monotonic()
    assert [proxy.ended(job)["status"] for proxy, job in jobs] == ["completed"] * 2
    assert time.monotonic() - began > 2 * HANG_S, "long enough to be taken for hung"
    assert before == (
        sorted(stubs(server.pid)),
        sorted(stubs(unsupervised.pid)),
        rank(server.pid),
        rank(unsupervised.pid),
    )
    after(
        f"jobs of {time.monotonic() - began:.0f} s with a timeout of {HANG_S} s: nothing is killed"
    )


@pytest.mark.parametrize("also", [None, signal.SIGSTOP], ids=["working", "stopped"])
@pytest.mark.attack(
    "SIGKILL of `triton-video triton`",
    "the dit stub and its rank live on for ever, and a temporary folder",
)
def test_nothing_outlives_a_killed_triton(
    repository: Path, monkeypatch: pytest.MonkeyPatch, also: signal.Signals | None, after: Any
) -> None:
    monkeypatch.setenv(VARIABLE, "a token of this test")
    http, grpc, metrics = map(str, free_ports(3))
    words = ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics, "-q"]
    command = [sys.executable, "-m", "cli", "triton", "--model-repository", str(repository), *words]
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process,
        VideoClient(f"127.0.0.1:{grpc}", token="a token of this test") as client,
    ):
        wait_for(lambda: is_ready(client))
        events = client.generate(SamplingParams(**LONG))
        next(events)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 7, "the server, five stubs and a rank"
        time.sleep(1.5)  # the kernel's signal to stubs is set a second after they are loaded
        if also:
            for child in family:
                child.send_signal(also)
        process.kill()
        with contextlib.suppress(ServerError):
            list(events)
    wait_for(lambda: not any(alive(child.pid) for child in family), 10)
    assert not list(Path(tempfile.gettempdir()).glob(f"triton-video-{process.pid}-*")), (
        "a folder is left"
    )
    after(
        f"{'stopped' if also else 'working'}: every process ends within moments, and no folder is "
        "left"
    )
