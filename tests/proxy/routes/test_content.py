"""``/v1/videos/{id}/content``: the three files of a video."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import ObjectStore

from tests.proxy.conftest import MP4, SPRITESHEET, THUMBNAIL, Api, Opener
from tests.proxy.live import head, live
from tests.waiting import async_wait_for

FILES = {
    "video": (MP4, "video/mp4", ".mp4"),
    "thumbnail": (THUMBNAIL, "image/webp", ".thumbnail.webp"),
    "spritesheet": (SPRITESHEET, "image/webp", ".spritesheet.webp"),
}


@pytest.fixture
async def url(api: Api) -> str:
    """The URL of the content of a finished video."""
    video_id = (await api.create())["id"]
    await api.wait(video_id, "completed")
    return f"/v1/videos/{video_id}/content"


@pytest.mark.parametrize("variant", FILES)
async def test_each_variant_supports_ranges_and_etags(api: Api, url: str, variant: str) -> None:
    expected, kind, suffix = FILES[variant]

    ask = {"url": url, "params": {"variant": variant}}
    whole, head = [await api.http.request(method, **ask) for method in ("GET", "HEAD")]
    assert (whole.status_code, whole.content, head.content) == (200, expected, b"")
    for answer in (whole, head):
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-length"] == str(len(expected))
        assert answer.headers["content-disposition"].endswith(f'{suffix}"')
    part = await api.http.get(**ask, headers={"range": "bytes=4-9"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (
        206,
        expected[4:10],
        kind,
    )
    assert part.headers["content-range"] == f"bytes 4-9/{len(expected)}"
    beyond = await api.http.get(**ask, headers={"range": f"bytes={len(expected)}-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "invalid_range")
    same = await api.http.get(**ask, headers={"if-none-match": whole.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (
        304,
        b"",
        whole.headers["etag"],
    )


async def test_each_variant_has_its_own_etag(api: Api, url: str) -> None:
    etags = [
        (await api.http.head(url, params={"variant": variant})).headers["etag"] for variant in FILES
    ]
    assert len(set(etags)) == len(FILES)
    for variant, etag in zip(FILES, [*etags[1:], etags[0]], strict=True):
        answer = await api.http.get(
            url, params={"variant": variant}, headers={"if-none-match": etag}
        )
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "variant", ["", "audio", "Thumbnail", "thumbnail.webp", "../video", "video\0"]
)
async def test_unknown_variant_is_refused(api: Api, url: str, variant: str) -> None:
    answer = await api.http.get(url, params={"variant": variant})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (
        400,
        "variant",
        "invalid_value",
    )
    assert error["message"] == "variant: should be one of video, thumbnail, spritesheet."


async def test_thumbnail_of_an_unfinished_video_is_not_ready(serve: Opener) -> None:
    """This holds for every variant."""
    async with serve() as api:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        for variant in FILES:
            answer = await api.http.get(
                f"/v1/videos/{video_id}/content", params={"variant": variant}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_ready")


async def test_delete_removes_the_previews(api: Api, url: str, tmp_path: Path) -> None:
    """The folder they were in is removed, too."""
    folder = tmp_path / "data" / "videos"

    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(FILES)
    assert (await api.http.delete(url.removesuffix("/content"))).json()["deleted"]
    assert list(folder.iterdir()) == []
    for variant in FILES:
        assert (await api.http.get(url, params={"variant": variant})).status_code == 404


async def test_disk_that_fills_up_leaves_no_files(
    serve: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job fails and leaves no file, the server lives."""
    put = obstore.put_async

    async def full(store: ObjectStore, path: str, file: Any, **_: Any) -> None:
        if "spritesheet" in path:
            raise GenericError("no space left on /some/where")
        await put(store, path, file)

    async with serve() as api:
        with monkeypatch.context() as patched:
            patched.setattr(obstore, "put_async", full)
            failed = await api.wait((await api.create())["id"])
        assert failed["error"] == {
            "code": "storage_error", "message": "The video could not be stored: GenericError."
        }  # fmt: skip
        assert list((tmp_path / "data" / "videos").iterdir()) == []
        await api.wait((await api.create())["id"], "completed")


async def test_schema_lists_variants_and_media_types(api: Api, url: str) -> None:
    get = (await api.http.get("/openapi.json")).json()["paths"]["/v1/videos/{video_id}/content"][
        "get"
    ]
    (variant,) = [parameter for parameter in get["parameters"] if parameter["name"] == "variant"]
    assert variant["schema"]["enum"] == [*FILES, "png", "webp", "jpeg"]
    types = {"video/mp4", "image/webp", "image/png", "image/jpeg"}
    assert get["responses"]["200"]["content"].keys() == types


async def test_aborted_downloads_close_their_connections(
    serve: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections end, memory and log stay clean, and the next client gets the whole file."""
    large = MP4 + bytes(40_000_000)

    with caplog.at_level(logging.WARNING):
        async with serve() as api, live(api.app) as site:
            api.triton.mp4 = lambda prompt: large
            video_id = (await api.create())["id"]
            await api.wait(video_id, "completed")
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
                writer.write(head("GET", f"/v1/videos/{video_id}/content"))
                assert await reader.readexactly(100_000)
                writer.transport.abort()
            await async_wait_for(lambda: not site.server.server_state.connections, 10)
            assert (await site.http.get(f"/v1/videos/{video_id}/content")).content == large
    assert caplog.records == []


async def test_concurrent_jobs_get_their_own_videos(serve: Opener) -> None:
    async with serve(jobs_per_triton=4) as api:
        api.triton.mp4 = lambda prompt: MP4 + prompt.encode()
        api.triton.gate.clear()
        ids = [(await api.create(prompt=f"prompt {number}"))["id"] for number in range(4)]
        for video_id in ids:
            await api.wait(video_id, "in_progress")
        api.triton.gate.set()
        for number, video_id in enumerate(ids):
            await api.wait(video_id, "completed")
            content = (await api.http.get(f"/v1/videos/{video_id}/content")).content
            assert content == MP4 + f"prompt {number}".encode()
