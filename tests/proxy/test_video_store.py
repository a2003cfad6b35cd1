"""The files of a video: stored all or none, in a folder and on S3."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore, ObjectStore

from pipeline.errors import ServerError
from proxy.settings import ProxySettings
from proxy.video_store import CHUNK_BYTES, VARIANTS, VideoStore

FILES = {variant: f"the {variant}".encode() for variant in VARIANTS}


def paths(store: ObjectStore) -> list[str]:
    return [meta["path"] for batch in obstore.list(store) for meta in batch]


async def content(files: VideoStore, key: str) -> dict[str, bytes]:
    found = {}
    for variant in VARIANTS:
        size, _ = await files.size_and_etag(key, variant)
        found[variant] = b"".join([piece async for piece in files.read(key, variant, 0, size)])
    return found


async def test_files_are_stored_and_deleted_under_one_key() -> None:
    store = MemoryStore()
    files = VideoStore(store)
    first, second = [await files.put("video_a", FILES) for _ in range(2)]
    assert first != second
    await files.delete(first)
    assert await content(files, second) == FILES
    assert await files.older_than(-1) == [second]
    for variant in VARIANTS:
        with pytest.raises(FileNotFoundError):
            await files.size_and_etag(first, variant)
    await files.delete(second)
    await files.delete(second)
    assert paths(store) == []


@pytest.mark.parametrize("failing", range(len(VARIANTS)))
async def test_failed_write_leaves_no_files(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may fill up at any of the files."""
    put, calls = obstore.put_async, []

    async def full(store: ObjectStore, path: str, file: Any, **_: Any) -> None:
        calls.append(path)
        if len(calls) > failing:
            raise GenericError("no space left")
        await put(store, path, file)

    store = MemoryStore()
    monkeypatch.setattr(obstore, "put_async", full)
    with pytest.raises(GenericError):
        await VideoStore(store).put("video_a", FILES)
    assert len(calls) == failing + 1
    assert paths(store) == []


async def test_cancelled_write_leaves_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The video is deleted while its files are written."""
    put, calls, reached = obstore.put_async, [], asyncio.Event()

    async def slow(store: ObjectStore, path: str, file: Any, **_: Any) -> None:
        calls.append(path)
        if len(calls) == len(VARIANTS):
            reached.set()
            await asyncio.Event().wait()
        await put(store, path, file)

    store = MemoryStore()
    monkeypatch.setattr(obstore, "put_async", slow)
    task = asyncio.create_task(VideoStore(store).put("video_a", FILES))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert paths(store) == []


async def test_partial_attempt_is_listed_once_and_removed_whole() -> None:
    """kill -9 between two writes."""
    store = MemoryStore()
    files = VideoStore(store)
    whole, cut = [await files.put("video_a", FILES) for _ in range(2)]
    obstore.delete(store, max(path for path in paths(store) if path.startswith(cut)))
    assert await files.older_than(-1) == sorted([whole, cut])
    await files.delete(cut)
    assert await content(files, whole) == FILES
    assert len(paths(store)) == len(VARIANTS)


async def test_attempts_of_one_video_are_independent(tmp_path: Path) -> None:
    """The removal of an empty folder must not break a concurrent write."""
    files = VideoStore.open(tmp_path / "videos")

    async def attempt() -> None:
        for _ in range(20):
            key = await files.put("video_a", FILES)
            assert await content(files, key) == FILES
            await files.delete(key)

    await asyncio.gather(*(attempt() for _ in range(4)))
    assert list((tmp_path / "videos").iterdir()) == []


async def read(files: VideoStore, key: str, start: int, end: int) -> list[bytes]:
    return [piece async for piece in files.read(key, "video", start, end)]


async def test_file_is_read_whole_and_in_ranges(store_url):
    files = VideoStore.open(store_url)
    content = os.urandom(2 * CHUNK_BYTES + 5)
    key = await files.put("video_x", {**FILES, "video": content})
    size, etag = await files.size_and_etag(key, "video")
    assert (size, etag[0], etag[-1]) == (len(content), '"', '"')
    pieces = await read(files, key, 0, size)
    assert (b"".join(pieces), max(map(len, pieces))) == (content, CHUNK_BYTES)
    assert b"".join(await read(files, key, 7, CHUNK_BYTES + 9)) == content[7 : CHUNK_BYTES + 9]


async def test_multipart_upload_is_stored_whole(store_url):
    """The upload has several parts."""
    files = VideoStore.open(store_url)
    content = os.urandom(12 << 20)
    key = await files.put("video_x", {**FILES, "video": content})
    assert b"".join(await read(files, key, 0, len(content))) == content


async def test_deleted_file_is_not_listed(store_url):
    files = VideoStore.open(store_url)
    kept, gone = [await files.put("video_x", FILES) for _ in range(2)]
    assert sorted(await files.older_than(-1)) == sorted([kept, gone])
    assert await files.older_than(60) == []
    await files.delete(gone)
    await files.delete(gone)
    await files.delete(None)
    assert await files.older_than(-1) == [kept]
    with pytest.raises(FileNotFoundError):
        await files.size_and_etag(gone, "video")
    await files.delete(kept)
    assert await files.older_than(-1) == []


async def test_check_leaves_no_files(store_url):
    files = VideoStore.open(store_url)
    files.check()
    assert await files.older_than(-1) == []


async def test_empty_folders_are_removed(tmp_path):
    files = VideoStore.open(tmp_path / "videos")
    await files.delete(await files.put("video_x", FILES))
    assert list((tmp_path / "videos").iterdir()) == []


def test_file_url_names_a_folder(tmp_path):
    VideoStore.open(f"file://{tmp_path}/two%20words")
    assert (tmp_path / "two words").is_dir()


@pytest.mark.parametrize(
    "url", ["s3://b", "s3://b/a/b", "gs://b/x", "az://c/x", "file:///srv/videos"]
)
def test_valid_store_url_is_accepted(url):
    assert ProxySettings(store_url=url).store_url == url


@pytest.mark.parametrize(
    "url",
    ["s3://key:secret@bucket/x", "s3://", "s3:///x", "s3://bucket?secret=1", "memory:///",
     "http://bucket/x", "videos",
     "file://host/x", "file:///", ""],
)  # fmt: skip
def test_unknown_store_url_is_refused(url):
    with pytest.raises(ValueError, match="credentials come from the environment") as caught:
        ProxySettings(store_url=url)
    assert "secret" not in str(caught.value)


def test_unusable_store_is_a_server_error(s3_folder, tmp_path, monkeypatch):
    def refusal(place: Any) -> str:
        with pytest.raises(ServerError) as caught:
            VideoStore.open(place).check()
        message = str(caught.value)
        assert message.startswith("the video store cannot be used: ")
        assert "\n" not in message
        assert "secret" not in message
        return message

    assert "no such bucket" in refusal("s3://none/videos")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert "error sending request" in refusal(s3_folder)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    assert "Account must be specified" in refusal("az://container/videos")
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file")
