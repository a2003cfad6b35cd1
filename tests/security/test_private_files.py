"""Other users of the machine read what the server and the command line write."""

# ruff: noqa: F401, F811 - fixtures of tests.proxy

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cli.output.files import Destination
from cli.params.groups import OutputGroup
from export.cache import building, open_cache
from tests.conftest import ROOT
from tests.proxy.conftest import (
    Opener,
    _no_waiting_for_the_disk,
    info,
    serve,
    stores,
)

After = Callable[[str], None]


def modes(folder: Path) -> dict[str, int]:
    """Every path below the folder that another user may reach and read."""
    open_to_others: dict[str, int] = {}
    for path in (folder, *folder.rglob("*")):
        if path.lstat().st_mode & 0o077:
            open_to_others[path.relative_to(folder.parent).as_posix()] = (
                path.lstat().st_mode & 0o777
            )
    return open_to_others


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.attack(
    "another user reads the data folder", "database 0644, videos 0644 in a folder 0755"
)
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
async def test_data_is_for_its_user_only(
    serve: Opener, tmp_path: Path, existing: bool, after: After
) -> None:
    data = tmp_path / "data"

    if existing:  # as an earlier version left it
        async with serve() as api:
            await api.wait((await api.create())["id"])
        for path in (data, *data.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
    async with serve() as api:
        await api.wait((await api.create())["id"])
        reachable = [name for name in modes(data) if not name.startswith("data/videos/")]
        assert reachable == []
    after("folders 0700, files 0600, whatever the umask and the modes before")


@pytest.mark.program
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_server_writes_for_its_user_only_whatever_the_umask(
    tmp_path: Path, umask: None, command: str
) -> None:
    flags = ["--triton-url", "127.0.0.1:1", "--data-path", str(tmp_path / "data")]
    flags += ["--port", "0", "--no-auth"] if command == "serve" else []
    with subprocess.Popen(
        [sys.executable, "-m", "cli", command, *flags], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        try:
            status = Path(f"/proc/{process.pid}/status")
            deadline = time.monotonic() + 60
            while "Umask:\t0077" not in status.read_text() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
            assert "Umask:\t0077" in status.read_text()
            while (
                not (tmp_path / "data" / "jobs.sqlite-wal").exists() and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            assert modes(tmp_path / "data") == {}
        finally:
            process.terminate()


async def test_a_folder_with_other_things_in_it_keeps_its_mode(
    serve: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "notes.txt").touch()
    data.chmod(0o777)

    async with serve():
        assert data.stat().st_mode & 0o777 == 0o777
        assert set(modes(data / "videos")) == set()
        assert (data / "jobs.sqlite").stat().st_mode & 0o077 == 0
        assert any("other users may write" in line for line in caplog.messages)


@pytest.mark.attack("another user reads what `generate` is still writing", "temporary files 0644")
@pytest.mark.parametrize("mask", [0o022, 0o002])
def test_an_output_is_private_until_it_is_whole(
    tmp_path: Path, umask: None, mask: int, after: After
) -> None:
    os.umask(mask)
    seen: list[int] = []

    def frames(file: BinaryIO) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.glob(".*.npy.part-*"))
        file.write(b"frames")

    params = OutputGroup(output_path=tmp_path, return_frames=True)
    with Destination(params, "a red circle") as destination:
        video, array = destination.write(b"mp4", frames)
    assert array is not None
    assert seen == [0o600]
    assert [path.stat().st_mode & 0o777 for path in (video, array)] == [0o666 & ~mask] * 2
    after("temporary files 0600; finished ones have the modes that the umask gives")


@pytest.mark.attack("another user reads the cache of exported checkpoints", "folders 0755")
@pytest.mark.usefixtures("umask")
def test_the_cache_is_for_its_user_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: After
) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "new" / "cache"))
    cache = open_cache()
    with building(cache / "repositories" / "key") as folder:
        assert folder is not None
        (folder / "config.pbtxt").touch()
    assert [path.stat().st_mode & 0o777 for path in (cache, cache / "repositories" / "key")] == [
        0o700
    ] * 2
    usual = tmp_path / "triton-video"
    usual.mkdir()
    usual.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    assert [open_cache(each).stat().st_mode & 0o777 for each in (usual, shared)] == [0o700, 0o775]
    after("0700; one that the operator created keeps its mode")
