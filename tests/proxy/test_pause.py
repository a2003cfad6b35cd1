"""A pause holds new jobs back, and begins once no job runs."""

from __future__ import annotations

from proxy.own_triton import OwnTriton
from proxy.tritons import Tritons
from tests.proxy.conftest import FakeTriton


async def test_pause_holds_new_jobs_back_until_it_ends(info):
    own = OwnTriton()
    pause, tritons = own.pause, Tritons([FakeTriton(info)], 2, own=own)
    (triton,) = tritons._all
    await triton.check()
    tritons.least_busy(info.name).own_jobs.add("running")
    assert not pause.begin(), "a job may have been taken at this moment"
    assert tritons.free() == set()
    assert tritons.least_busy(info.name) is None
    assert not pause.begin(), "a job runs"
    triton.own_jobs.clear()
    assert pause.begin()
    pause.end()
    assert tritons.least_busy(info.name) is triton
    assert not pause.begin(), "each pause begins anew"
