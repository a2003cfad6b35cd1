"""What Triton and the stages under it do to a video when they are killed or hang, with a job in
flight.

Each fault is a real signal to a real process. The server that `serve` starts is supervised; one
that runs elsewhere is not (`test_hangs_elsewhere`).
"""

from __future__ import annotations

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
from cli.runtime.endpoints import Sockets
from cli.runtime.stubs import stubs
from cli.runtime.supervisor import SupervisedServer
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import ServerError
from pipeline.families import SamplingParams
from tests.conftest import ROOT
from tests.e2e.program import Proxy
from tests.needs import exhaustive
from tests.security.processes import (
    alive,
    is_ready,
    ours,
    rank,
    regions,
    runs_in,
    settles,
    stub,
)
from tests.security.videos import DECODED, DECODED_BY_TRITON, HANG_S, LONG, SHORT, SLOW, Api
from tests.waiting import wait_for

NEVER = "the job hung until --job-timeout-s (an hour)"
FAILED = "the job failed with backend_error"

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("others")]


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
    body = {**SHORT, "prompt": "words that no other test has encoded"}
    ended = api.ended(api.create(body))
    assert (ended["status"], ended["error"]) == ("completed", None)
    wait_for(lambda: not alive(stopped))
    settles(server, private_tmp)
    after(f"{stage}: killed and replaced; the job completes")


@pytest.mark.attack(
    "SIGKILL of the text encoder within a request",
    f"{FAILED}, and later ones with the same prompt too",
)
def test_killed_text_encoder_leaves_no_empty_result(
    server: SupervisedServer, api: Api, private_tmp: Path, after: Callable[[str], None]
) -> None:
    victim = stub(server.pid, "text_encoder")
    os.kill(victim, signal.SIGSTOP)
    body = {**SHORT, "prompt": "the text encoder ends while it reads this"}
    job = api.create(body)
    time.sleep(0.5)  # the request has arrived there; it is not taken for hung yet
    os.kill(victim, signal.SIGKILL)
    for ended in (api.ended(job), api.ended(api.create(body))):
        assert (ended["status"], ended["error"]) == ("completed", None)
    settles(server, private_tmp)
    after("replaced; the job completes, and the next one with the same prompt")


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
        server = psutil.Process(victim).ppid()
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ServerError):
            list(stream)
        seconds = time.monotonic() - began
        # The server with the dead stage says that it is ready, until it is ended.
        wait_for(lambda: not alive(server))
        wait_for(lambda: is_ready(client))
        assert isinstance(list(client.generate(SamplingParams(**SHORT)))[-1], Video)
    assert seconds < 15
    after(f"the request fails {seconds:.0f} s later, and the next one works")


@pytest.mark.usefixtures("load")
@pytest.mark.attack("long steps and a long decoding on an overloaded machine", "-")
def test_busy_processes_are_not_replaced(
    server: SupervisedServer, api: Api, after: Callable[[str], None]
) -> None:
    before = (sorted(stubs(server.pid)), rank(server.pid))
    seconds = api.seconds(SLOW)
    assert before == (sorted(stubs(server.pid)), rank(server.pid))
    assert seconds > 2 * HANG_S, "long enough to be taken for hung"
    after(f"a job of {seconds:.0f} s with a timeout of {HANG_S} s: nothing is killed")


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
        # Its steps still run when the server is killed, more than a second later.
        events = client.generate(SamplingParams(**LONG, width=256, height=256))
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
