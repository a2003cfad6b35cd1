"""What a Triton that nobody here supervises does to a video when it is killed or hangs, or a stage
of it: one on another machine, or under `generate`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.runtime.embedded import EmbeddedServer
from cli.runtime.stubs import stubs
from pipeline.client import VideoClient
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.families import SamplingParams
from tests.e2e.program import Proxy
from tests.security.processes import rank, runs_in, stub
from tests.security.videos import DECODED, DECODED_BY_TRITON, HANG_S, LONG, SLOW, Api
from tests.waiting import wait_for

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("others")]


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


@pytest.mark.attack(
    "SIGSTOP of a Triton elsewhere (--triton-url)", "the job hung until --job-timeout-s (an hour)"
)
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


@pytest.mark.usefixtures("load")
@pytest.mark.attack("long steps and a long decoding on an overloaded machine elsewhere", "-")
def test_busy_processes_elsewhere_are_not_given_up(
    far: Api, unsupervised: EmbeddedServer, after: Callable[[str], None]
) -> None:
    before = (sorted(stubs(unsupervised.pid)), rank(unsupervised.pid))
    seconds = far.seconds(SLOW)
    assert before == (sorted(stubs(unsupervised.pid)), rank(unsupervised.pid))
    assert seconds > 2 * HANG_S, "long enough to be taken for hung"
    after(f"a job of {seconds:.0f} s with a timeout of {HANG_S} s: nothing is loaded again")
