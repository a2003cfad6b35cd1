"""The files of a video in a store: all of them or none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore, ObjectStore

from proxy.files import VARIANTS, VideoFiles

FILES = {variant: f"the {variant}".encode() for variant in VARIANTS}


def paths(store: ObjectStore) -> list[str]:
    return [meta["path"] for batch in obstore.list(store) for meta in batch]


async def content(files: VideoFiles, key: str) -> dict[str, bytes]:
    found = {}
    for variant in VARIANTS:
        size, _ = await files.size_and_etag(key, variant)
        found[variant] = b"".join([piece async for piece in files.read(key, variant, 0, size)])
    return found


def test_what_is_put_is_read_and_deleted_under_one_key() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        files = VideoFiles(store)
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

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", range(len(VARIANTS)))
def test_a_write_that_fails_leaves_nothing(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statement 28: a disk may be full at any of the files."""
    put, calls = obstore.put_async, []

    async def full(store: ObjectStore, path: str, file: Any) -> None:
        calls.append(path)
        if len(calls) > failing:
            raise GenericError("no space left")
        await put(store, path, file)

    async def scenario() -> None:
        store = MemoryStore()
        monkeypatch.setattr(obstore, "put_async", full)
        with pytest.raises(GenericError):
            await VideoFiles(store).put("video_a", FILES)
        assert len(calls) == failing + 1
        assert paths(store) == []

    asyncio.run(scenario())


def test_a_write_that_is_cancelled_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A video that is deleted while its files are written."""
    put, calls, reached = obstore.put_async, [], asyncio.Event()

    async def slow(store: ObjectStore, path: str, file: Any) -> None:
        calls.append(path)
        if len(calls) == len(VARIANTS):
            reached.set()
            await asyncio.Event().wait()
        await put(store, path, file)

    async def scenario() -> None:
        store = MemoryStore()
        monkeypatch.setattr(obstore, "put_async", slow)
        task = asyncio.create_task(VideoFiles(store).put("video_a", FILES))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert paths(store) == []

    asyncio.run(scenario())


def test_an_attempt_that_was_cut_off_is_listed_once_and_removed_whole() -> None:
    """kill -9 between two writes."""

    async def scenario() -> None:
        store = MemoryStore()
        files = VideoFiles(store)
        whole, cut = [await files.put("video_a", FILES) for _ in range(2)]
        obstore.delete(store, max(path for path in paths(store) if path.startswith(cut)))
        assert await files.older_than(-1) == sorted([whole, cut])
        await files.delete(cut)
        assert await content(files, whole) == FILES
        assert len(paths(store)) == len(VARIANTS)

    asyncio.run(scenario())


def test_attempts_at_one_video_come_and_go_side_by_side(tmp_path: Path) -> None:
    """A folder that is empty for a moment is removed: no write that is under way may be lost with it."""

    async def scenario() -> None:
        files = VideoFiles.local(tmp_path / "videos")

        async def attempt() -> None:
            for _ in range(20):
                key = await files.put("video_a", FILES)
                assert await content(files, key) == FILES
                await files.delete(key)

        await asyncio.gather(*(attempt() for _ in range(4)))
        assert list((tmp_path / "videos").iterdir()) == []

    asyncio.run(scenario())
