"""The cache on disk: each folder is made once, by one process, whole or not at all."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from export import cache
from export.cache import Claim, building, key, link, open_cache, source_hash, versions
from pipeline.errors import OutputError
from pipeline.system.cache_folder import cache_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "target"


def test_folder_appears_when_the_block_ends(target: Path) -> None:
    with building(target) as folder:
        assert folder is not None
        (folder / "file").touch()
        assert not target.exists()
    assert names(target) == ["file"]
    assert stat.S_IMODE(target.stat().st_mode) & 0o077 == cache.FOLDER_MODE & 0o077
    assert names(target.parent) == ["target"]


def test_existing_folder_is_not_made_again(target: Path) -> None:
    with building(target) as first, building(target.with_name("other")) as other:
        assert first != other
    with building(target) as again:
        assert again is None
    assert Claim(target).acquire(wait=False) is None


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_is_left_when_the_block_fails(target: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), building(target):
        raise error
    assert names(target.parent) == []
    assert Claim(target).acquire(wait=False) is not None, "the lock was given back"


def test_second_claim_is_refused_while_the_first_works(target: Path) -> None:
    first, second = Claim(target), Claim(target)
    folder = first.acquire(wait=False)
    assert folder is not None
    assert second.acquire(wait=False) is None
    assert folder.exists()
    first.publish(folder)
    assert second.acquire(wait=False) is None
    assert target.is_dir()


def test_building_waits_for_the_one_that_is_at_it(target: Path) -> None:
    claim = Claim(target)
    folder = claim.acquire(wait=True)
    assert folder is not None
    found: list[Path | None] = []

    def build() -> None:
        with building(target) as other:
            found.append(other)

    waiting = threading.Thread(target=build, daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    claim.publish(folder)
    waiting.join(10)
    assert found == [None], "it was made meanwhile"


def test_claim_that_is_given_up_can_be_claimed_again(target: Path) -> None:
    first, second = Claim(target), Claim(target)
    folder = first.acquire(wait=True)
    assert folder is not None
    first.give_up(folder)
    assert not folder.exists()
    assert second.acquire(wait=False) is not None


def test_remains_of_a_killed_process_are_removed(target: Path) -> None:
    dead = target.parent / ".target-abc"
    dead.mkdir(parents=True)
    (target.parent / ".other-abc").mkdir()
    folder = Claim(target).acquire(wait=True)
    assert folder is not None
    assert names(target.parent) == sorted([".other-abc", folder.name])


def test_lock_is_free_after_a_folder_was_found(target: Path) -> None:
    target.mkdir(parents=True)
    assert Claim(target).acquire(wait=True) is None
    target.rmdir()
    assert Claim(target).acquire(wait=False) is not None


def test_key_tells_its_parts_apart() -> None:
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert key("a", "b") == key("a", "b") != key("b", "a")
    assert len(key("a")) == 24


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.delenv("TRITON_VIDEO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/user/.cache/triton-video")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/triton-video")
    monkeypatch.setenv("TRITON_VIDEO_CACHE", "~/mine")
    assert cache_folder() == Path("/home/user/mine")
    monkeypatch.setenv("TRITON_VIDEO_CACHE", "~no-such-user/mine")
    with pytest.raises(OutputError, match="TRITON_VIDEO_CACHE"):
        cache_folder()


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_cache_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, other = tmp_path / "triton-video", tmp_path / "other"
    for folder in (usual, other):
        folder.mkdir()
        folder.chmod(0o755)
    assert open_cache(other) == other
    assert mode(other) == 0o755, "a folder of another name is the user's"
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(usual))
    assert open_cache() == usual
    assert mode(usual) == 0o700
    assert mode(open_cache(tmp_path / "new")) == 0o700


def test_link_shares_the_file_or_copies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    alias = tmp_path / "alias"
    alias.symlink_to(source)
    link(alias, tmp_path / "linked")
    assert (tmp_path / "linked").samefile(source)
    assert not (tmp_path / "linked").is_symlink()

    def refused(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", refused)
    link(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "content"
    assert not (tmp_path / "copied").samefile(source)


def test_versions_are_of_packages_that_are_installed() -> None:
    found = versions("pytest", "no-such-package-anywhere")
    assert found == {"pytest": pytest.__version__}


def test_source_hash_follows_every_python_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    module = tmp_path / "package" / "deep" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("one")
    (tmp_path / "other").mkdir()
    one = source_hash("package", "other")
    (module.parent / "notes.txt").write_text("ignored")
    assert source_hash("package", "other") == one
    module.write_text("two")
    assert source_hash("package", "other") != one
