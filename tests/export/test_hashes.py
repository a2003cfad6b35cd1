"""Hashes of large files: kept for a file as long as it is the same, and for no other one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from export.hashes import BLOCK_BYTES, FileHashes, sha256
from pipeline.errors import CheckpointError


class Reader(FileHashes):
    """Hashes whose reads are counted, in bytes."""

    def __init__(self, folder: Path) -> None:
        self.read: list[int] = []
        super().__init__(folder, self.read.append)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_file_is_read_once(tmp_path: Path) -> None:
    hashes, file = Reader(tmp_path), written(tmp_path / "a", b"content")
    assert hashes.of(file) == hashes.of(file) == digest(b"content")
    assert Reader(tmp_path).of(file) == digest(b"content")
    assert hashes.read == [7]


def test_files_of_one_size_and_time_have_their_own_hashes(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path)
    for name, content in (("a", b"one"), ("b", b"two")):
        assert hashes.of(written(tmp_path / name, content)) == digest(content)


def test_hard_links_share_a_record(tmp_path: Path) -> None:
    hashes, file = Reader(tmp_path), written(tmp_path / "a", b"content")
    (tmp_path / "b").hardlink_to(file)
    assert hashes.of(file) == hashes.of(tmp_path / "b")
    assert hashes.read == [7]


@pytest.mark.parametrize("content", [b"changed", b"longer content"])
def test_edited_file_is_read_again(tmp_path: Path, content: bytes) -> None:
    hashes, file = FileHashes(tmp_path), written(tmp_path / "a", b"content")
    assert hashes.of(file) == digest(b"content")
    file.write_bytes(content)
    assert hashes.of(file) == digest(content)


def test_change_of_size_alone_is_noticed(tmp_path: Path) -> None:
    hashes, file = FileHashes(tmp_path), written(tmp_path / "a", b"content")
    hashes.of(file)
    assert hashes.of(written(file, b"longer content")) == digest(b"longer content")


def test_damaged_record_is_made_anew(tmp_path: Path) -> None:
    hashes, file = Reader(tmp_path), written(tmp_path / "a", b"content")
    hashes.of(file)
    (record,) = (path for path in (tmp_path / "hashes").rglob("*") if path.is_file())
    record.write_text("half a rec")
    assert hashes.of(file) == digest(b"content")
    assert record.read_text() == digest(b"content")
    assert hashes.read == [7, 7]


def test_large_file_is_read_in_blocks(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as output:
        output.truncate(BLOCK_BYTES + 5)
    read: list[int] = []
    assert sha256(file, read.append) == digest(b"\0" * (BLOCK_BYTES + 5))
    assert read == [8 << 20, 5]


def test_download_must_have_the_hash_that_the_hub_promised(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    link = tmp_path / "weights"
    for content, name in ((b"right", digest(b"right")), (b"wrong", digest(b"other"))):
        written(blobs / name, content)
    link.symlink_to(blobs / digest(b"right"))
    assert FileHashes(tmp_path).of(link) == digest(b"right")
    link.unlink()
    link.symlink_to(blobs / digest(b"other"))
    with pytest.raises(CheckpointError, match="is damaged: its sha256 is "):
        FileHashes(tmp_path).of(link)


@pytest.mark.parametrize("folder", ["blobs", "elsewhere"])
def test_only_names_of_blobs_promise_a_hash(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    name = digest(b"other") if folder == "elsewhere" else digest(b"other")[:40]
    file = written(tmp_path / folder / name, b"content")
    link = tmp_path / "weights"
    link.symlink_to(file)
    assert FileHashes(tmp_path).of(link) == digest(b"content")
