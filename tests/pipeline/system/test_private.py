"""Secrets that are made once and kept in a file of the user."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.system.private import kept_secret


def test_secret_is_kept_for_its_user_only(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert [kept_secret(file, "first"), kept_secret(file, "second")] == ["first", "first"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    kept_secret(file, "third")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_blank_file_gets_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("\n")
    assert kept_secret(file, "new") == file.read_text() == "new"


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def kept(number: int) -> str:
        together.wait()
        return kept_secret(tmp_path / "key", f"secret {number}")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(kept, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
