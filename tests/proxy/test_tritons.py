"""Several Tritons: health, load, and the model that each serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.client import CONTROL, DECODER, DeadStage, StageFault
from pipeline.errors import ServerError
from proxy.own_triton import OwnTriton, Place
from proxy.tritons import Triton, Tritons
from tests.proxy.conftest import FakeTriton
from tests.waiting import async_wait_for


async def checked(*clients: FakeTriton, slots: int = 1) -> Tritons:
    tritons, stopping = Tritons(clients, slots), asyncio.Event()
    watch = asyncio.create_task(tritons.watch(stopping))
    await asyncio.sleep(0.01)
    stopping.set()
    await watch
    return tritons


async def test_least_busy_triton_is_chosen(info):
    busy, idle = (
        FakeTriton(info, url="busy:1", elsewhere={"job-of-another-process"}),
        FakeTriton(info, url="idle:1"),
    )
    tritons = await checked(busy, idle, slots=2)
    first = tritons.least_busy(info.name)
    assert first.client is idle
    first.own_jobs.update({"a", "b"})
    assert tritons.least_busy(info.name).client is busy, "the other has no free slot"
    tritons.least_busy(info.name).own_jobs.update({"c", "d"})
    assert tritons.least_busy(info.name) is None
    assert tritons.free() == set()


async def test_triton_that_is_down_gets_no_job(info):
    down, up = FakeTriton(info, url="down:1", up=False), FakeTriton(info, url="up:1")
    tritons = await checked(down, up)
    assert tritons.healthy == {"down:1": False, "up:1": True}
    assert tritons.least_busy(info.name).client is up
    tritons.least_busy(info.name).suspect(ServerError("lost"))
    assert tritons.least_busy(info.name) is None
    assert list(tritons.models) == [info.name], "requests can wait for it"


async def test_own_triton_gets_jobs_once_it_has_started(info):
    async def connect(url: str) -> FakeTriton:
        return FakeTriton(info, url=url)

    own, stopping = OwnTriton(), asyncio.Event()
    tritons = Tritons([], 1, own=own, connect=connect)
    watch = asyncio.create_task(tritons.watch(stopping))
    own.stage = "preparing"
    await asyncio.sleep(0.01)
    assert (tritons.models, tritons.problem) == ({}, "preparing")
    own.announce(Place("own:1", Path("/none"), info))
    own.stage = "loading"
    await async_wait_for(lambda: tritons.models)
    assert (tritons.least_busy(info.name), tritons.problem) == (None, "loading")
    own.started()
    await async_wait_for(lambda: tritons.ready.is_set())
    assert tritons.problem is None
    triton = tritons.least_busy(info.name)
    assert triton.client.url == "own:1"
    triton.suspect(ServerError("lost"))
    assert tritons.problem == "no Triton is healthy"
    stopping.set()
    await watch


async def test_stopping_does_not_wait_for_the_own_triton(info):
    own, stopping = OwnTriton(), asyncio.Event()
    tritons = Tritons([], 1, own=own, connect=FakeTriton)
    watch = asyncio.create_task(tritons.watch(stopping))
    await asyncio.sleep(0.01)
    stopping.set()
    await watch
    own.announce(Place("own:1", Path("/none"), info))
    own.started()


async def test_job_goes_to_a_triton_of_its_model(info):
    other = info.model_copy(update={"name": "other"})
    tritons = await checked(FakeTriton(info, url="a:1"), FakeTriton(other, url="b:1"))
    assert list(tritons.models) == [info.name, "other"]
    assert tritons.free() == {info.name, "other"}
    assert tritons.least_busy("other").client.url == "b:1"
    assert tritons.least_busy("third") is None


async def test_restarted_triton_may_serve_another_model(info):
    triton = FakeTriton(info)
    tritons = await checked(triton)
    triton.up = False
    (known,) = tritons._all
    await known.check()
    assert not known.healthy
    triton.up, triton.info = True, info.model_copy(update={"name": "other"})
    await known.check()
    assert list(tritons.models) == ["other"]


async def test_dead_stage_is_reloaded(info, monkeypatch):
    """Triton does not restart a dead stub, and still reports that it is ready."""
    monkeypatch.setattr("proxy.tritons.JITTER_S", 0)

    client = FakeTriton(info, dead={"dit"})
    triton = Triton(client)
    await triton.check()
    assert (client.reloaded, triton.healthy) == (["dit"], True)
    # A stage without a status is known to be dead from the job that failed there.
    triton.suspect(DeadStage("text_encoder", client.url))
    assert not triton.healthy
    await triton.check()
    assert (client.reloaded, triton.healthy) == (["dit", "text_encoder"], True)
    await triton.check()
    assert client.reloaded == ["dit", "text_encoder"]


async def test_jobs_that_a_dead_decoder_held_are_given_up(info, monkeypatch):
    """Triton never ends them. Other stages fail the requests that they had when they die."""
    monkeypatch.setattr("proxy.tritons.JITTER_S", 0)
    client = FakeTriton(info, dead={"dit"})
    triton = Triton(client)
    before = triton.hung
    await triton.check()
    assert not before.is_set()
    client.faults = {DECODER: StageFault.DEAD}
    await triton.check()
    assert client.reloaded == ["dit", DECODER]
    assert before.is_set()
    assert not triton.hung.is_set(), "later jobs are not affected"


async def test_triton_with_an_unloadable_stage_is_unhealthy(info, monkeypatch):
    monkeypatch.setattr("proxy.tritons.JITTER_S", 0)

    async def refuse(stage: str) -> None:
        raise ServerError("explicit model control is off")

    client = FakeTriton(info, dead={"dit"})
    client.reload = refuse
    triton = Triton(client)
    await triton.check()
    assert not triton.healthy


async def test_failed_reload_is_tried_again(info, monkeypatch):
    """A failed reload leaves the stage unloaded, so that the ensemble is not ready."""
    monkeypatch.setattr("proxy.tritons.JITTER_S", 0)

    client = FakeTriton(info, dead={"dit"})
    load, failures = client.reload, ["no memory"]

    async def fail_once(stage: str) -> None:
        client.up = not failures
        if failures:
            raise ServerError(failures.pop())
        await load(stage)

    client.reload = fail_once
    triton = Triton(client)
    await triton.check()
    assert not triton.healthy
    await triton.check()
    assert (client.reloaded, triton.healthy) == (["dit"], True)


@pytest.mark.parametrize(
    ("silent", "hangs"),
    [(("dit",), True), (("dit", CONTROL), True), ((CONTROL,), False), ((), True)],
)
async def test_jobs_are_lost_after_the_hang_timeout(info, silent, hangs):
    """``()`` is a server that does not answer at all. Later jobs are not affected."""
    client = FakeTriton(info, up=bool(silent), faults=dict.fromkeys(silent, StageFault.SILENT))
    triton = Triton(client, hang_timeout_s=0.05)
    await triton.check()
    assert not triton.healthy
    assert not triton.hung.is_set(), "the timeout has not passed"
    await asyncio.sleep(0.06)
    await triton.check()
    given_up = triton.hung
    assert given_up.is_set() == hangs
    assert client.reloaded == [], "a living stage is not reloaded"
    client.up, client.faults = True, {}
    await triton.check()
    assert triton.healthy
    assert not triton.hung.is_set()
    assert given_up.is_set() == hangs
