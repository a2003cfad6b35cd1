"""Signed links to finished videos."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from pipeline.errors import InputError
from proxy.errors import ApiError
from proxy.links import LINK_KEY_FILE, Links, link_key
from proxy.settings import ProxySettings
from tests.proxy.conftest import MP4, THUMBNAIL, Api, Opener, on_both
from tests.proxy.live import events, live

KEY = b"k" * 32
NO_KEY = {"authorization": ""}


async def completed(api: Api) -> dict[str, str]:
    return await api.wait((await api.create())["id"])


async def fetch(api: Api, url: str, **headers: str) -> httpx.Response:
    return await api.http.get(url, headers={**NO_KEY, **headers})


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_bytes(KEY)
    return file


@on_both
async def test_url_of_a_completed_video_needs_no_key(serve: Opener, key_file: Path) -> None:
    async with serve(link_key_file=key_file) as api:
        api.triton.gate.clear()
        created = await api.create()
        assert created["url"] is None
        assert (await api.wait(created["id"], "in_progress"))["url"] is None
        api.triton.gate.set()
        url = (await api.wait(created["id"]))["url"]
        assert url.startswith(f"http://test/v1/videos/{created['id']}/content?")
        whole, part = await fetch(api, url), await fetch(api, url, range="bytes=4-9")
        assert (whole.content, whole.headers["content-type"]) == (MP4, "video/mp4")
        assert (part.status_code, part.content) == (206, MP4[4:10])
        assert (await api.http.head(url, headers=NO_KEY)).status_code == 200
        assert (await fetch(api, f"{url}&variant=thumbnail")).content == THUMBNAIL
        listed = (await api.http.get("/v1/videos")).json()["data"]
        assert [video["url"] for video in listed] == [url], "a browser may keep it"


async def test_failed_and_deleted_videos_have_no_link(serve: Opener) -> None:
    async with serve() as api:
        url = (await completed(api))["url"]
        video_id = urlsplit(url).path.split("/")[3]
        await api.http.delete(f"/v1/videos/{video_id}")
        assert (await fetch(api, url)).status_code == 404
        api.triton.failure = RuntimeError("x")
        assert (await completed(api))["url"] is None


async def test_changed_link_opens_nothing(serve: Opener) -> None:
    async with serve() as api:
        first, second = await completed(api), await completed(api)
        url = first["url"]
        expires, signature = (parse_qs(urlsplit(url).query)[key][0] for key in LINK_FIELDS)
        for wrong in (
            url.replace(first["id"], second["id"]),
            url.replace(f"expires={expires}", f"expires={int(expires) + 1}"),
            url.replace(f"expires={expires}&", ""),
            url.replace(signature, signature[:-1]),
            url.replace(signature, ""),
            url.replace(signature, "é"),
            url.replace(signature, signature.swapcase()),
            url.replace(first["id"], "none"),
            url.replace(first["id"], "a%00"),
        ):
            answer = await fetch(api, wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invalid_link")
            keyed = await api.http.get(wrong)
            assert keyed.status_code == 403, "a key does not repair a link"
        assert (await fetch(api, urlsplit(url).path)).status_code == 401
        assert (await fetch(api, url.replace("/content?", "?"))).status_code == 401
        deleted = await api.http.request("DELETE", url, headers=NO_KEY)
        assert deleted.status_code == 405


LINK_FIELDS = ("expires", "signature")


async def test_events_url_of_an_unfinished_video_needs_no_key(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        created = (await site.http.post("/v1/videos", json={"prompt": "x"})).json()
        url = created["events_url"]
        seen = []
        async with site.http.stream("GET", url, headers=NO_KEY) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for video in events(answer):
                seen.append(video)
                api.triton.gate.set()
        assert (seen[-1]["status"], seen[-1]["events_url"]) == ("completed", None)


async def test_links_open_nothing_but_their_own_resource(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video = await api.create()
        events_url = video["events_url"]
        api.triton.gate.set()
        url = (await api.wait(video["id"]))["url"]
        for wrong in (events_url.replace("/events?", "/content?"),
                      url.replace("/content?", "/events?"),
                      events_url.replace("signature=", "signature=a")):  # fmt: skip
            assert (await fetch(api, wrong)).status_code == 403
        assert (await fetch(api, events_url.replace("/events?", "?"))).status_code == 401


async def test_streams_of_a_link_count_for_the_key_of_the_video(serve: Opener) -> None:
    async with serve(max_streams_per_key=1) as api, live(api.app) as site:
        api.triton.gate.clear()
        created = (await site.http.post("/v1/videos", json={"prompt": "x"})).json()
        url, path = created["events_url"], f"/v1/videos/{created['id']}/events"
        async with site.http.stream("GET", url, headers=NO_KEY) as answer:
            assert answer.status_code == 200
            assert (await site.http.get(path)).status_code == 429
        api.triton.gate.set()


async def test_event_source_that_has_the_last_event_is_told_to_stop(serve: Opener) -> None:
    async with serve() as api:
        video_id = (await completed(api))["id"]
        path = f"/v1/videos/{video_id}/events"
        last = {"last-event-id": "completed-100"}
        assert (await api.http.get(path, headers=last)).status_code == 204
        assert (await api.http.get(path, headers={"last-event-id": "x"})).status_code == 200


async def test_link_of_another_owners_video_works_for_whoever_has_it(serve: Opener) -> None:
    async with serve() as api:
        url = (await completed(api))["url"]
        other = {"authorization": "Bearer key-b"}
        assert (await api.http.get(url, headers=other)).status_code == 200
        assert (await api.http.get(urlsplit(url).path, headers=other)).status_code == 404


async def test_link_survives_a_restart_and_ends_with_its_key(serve: Opener, tmp_path: Path) -> None:
    async with serve() as api:
        url = (await completed(api))["url"]
    async with serve() as api:
        assert (await fetch(api, url)).status_code == 200
    file = tmp_path / "data" / LINK_KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.unlink()
    async with serve() as api:
        assert (await fetch(api, url)).status_code == 403


async def test_public_url_replaces_the_address_of_the_request(serve: Opener) -> None:
    async with serve(public_url="https://videos.example/api/") as api:
        url = (await completed(api))["url"]
        assert url.startswith("https://videos.example/api/v1/videos/video_")


@pytest.mark.parametrize("host", ["a b", "evil.example/x?", "a@b", "", "[::1", "x" * 300])
async def test_address_that_is_none_makes_no_link(serve: Opener, host: str) -> None:
    async with serve() as api:
        video = await completed(api)
        headers = {"host": host, "x-forwarded-host": "evil.example"}
        seen = await api.http.get(f"/v1/videos/{video['id']}", headers=headers)
        assert seen.json()["url"] is None


async def test_links_can_be_turned_off(serve: Opener, tmp_path: Path) -> None:
    async with serve() as api:
        url = (await completed(api))["url"]
    async with serve(link_ttl_s=0) as api:
        assert (await completed(api))["url"] is None
        assert (await fetch(api, url)).status_code == 403


async def test_link_ends_after_its_time(serve: Opener) -> None:
    async with serve() as api:
        job = (await api.service.jobs.current([(await completed(api))["id"]]))[0]
    now = [0.0]
    links = Links(KEY, 1000, clock=lambda: now[0])
    for begin in (1_800_000_000, 1_800_000_001, 1_800_000_499, 1_800_000_500):
        now[0] = begin
        url = links.url(job, "https", "[::1]:30010")
        assert url is not None
        assert url.startswith("https://[::1]:30010/v1/videos/")
        query = parse_qs(urlsplit(url).query)
        expires, signature = int(query["expires"][0]), query["signature"][0]
        assert begin + 500 < expires <= begin + 1000
        now[0] = expires - 1
        links.check(job.id, expires, signature, "content")
        now[0] = expires
        with pytest.raises(ApiError):
            links.check(job.id, expires, signature, "content")


@pytest.mark.parametrize("stores", ["fleet"], indirect=True)
async def test_presigned_link_leads_to_the_bucket(serve: Opener, key_file: Path) -> None:
    async with serve(presigned_links=True, link_key_file=key_file) as api:
        video = await completed(api)
        for method, body in (("GET", MP4), ("HEAD", b"")):
            answer = await api.http.request(method, video["url"], headers=NO_KEY)
            assert answer.status_code == 307
            assert answer.headers["cache-control"] == "no-store"
            async with httpx.AsyncClient() as outside:
                found = await outside.request(method, answer.headers["location"])
            assert (found.status_code, found.content) == (200, body)
            assert found.headers["content-type"] == "video/mp4"
        by_key = await api.http.get(f"/v1/videos/{video['id']}/content")
        assert (by_key.status_code, by_key.content) == (200, MP4)
        wrong = await fetch(api, video["url"] + "&variant=none")
        assert wrong.status_code == 400


async def test_store_in_a_folder_presigns_nothing(serve: Opener) -> None:
    async with serve(presigned_links=True) as api:
        assert (await fetch(api, (await completed(api))["url"])).content == MP4


def test_key_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k" * 32 + "\n")
    assert link_key(ProxySettings(link_key_file=file, data_path=tmp_path)) == KEY
    for text in ("", "short"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"link_key_file: .* at least 32"):
            link_key(ProxySettings(link_key_file=file))
    with pytest.raises(InputError, match="link_key_file: cannot be read"):
        link_key(ProxySettings(link_key_file=tmp_path / "none"))


def test_server_without_a_data_folder_has_no_key_of_its_own(tmp_path: Path) -> None:
    settings = ProxySettings(
        data_path=tmp_path, database_url="postgresql://h/d", store_url="s3://bucket"
    )
    assert link_key(settings) is None
    assert list(tmp_path.iterdir()) == []


def test_key_that_cannot_be_stored_turns_links_off(tmp_path: Path) -> None:
    assert link_key(ProxySettings(data_path=tmp_path / "none" / "folder")) is None
