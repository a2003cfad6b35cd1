"""A folder that appears whole or not at all, whatever else happens beside it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from export.atomic_dir import placing, require_place
from pipeline.errors import OutputError


def ours(folder: Path) -> bool:
    return (folder / "ours").exists()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "output"


@pytest.fixture
def former(output: Path) -> Path:
    """An export that is there already."""
    output.mkdir(parents=True)
    (output / "ours").touch()
    return output


def test_folder_appears_when_the_block_ends(output: Path) -> None:
    with placing(output, replace=False, is_ours=ours) as folder:
        (folder / "file").write_text("content")
        assert not output.exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(output) == ["file"]
    assert stat.S_IMODE(output.stat().st_mode) == 0o755
    assert names(output.parent) == ["output"]


def test_nothing_appears_when_the_block_fails(output: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        placing(output, replace=False, is_ours=ours) as folder,
    ):
        fail(folder)
    assert names(output.parent) == []


def test_live_export_is_not_swept_by_another_one(output: Path) -> None:
    with placing(output, replace=True, is_ours=ours) as first:
        (first / "ours").write_text("first")
        with placing(output, replace=True, is_ours=ours) as second:
            assert first.exists()
            (second / "ours").write_text("second")
        assert (output / "ours").read_text() == "second"
        assert (first / "ours").read_text() == "first"
    assert (output / "ours").read_text() == "first"
    assert names(output.parent) == ["output"]


def test_folder_of_a_killed_export_is_swept(output: Path) -> None:
    dead = output.parent / ".output-abc"
    dead.mkdir(parents=True)
    (dead / "part").touch()
    other = output.parent / ".other-abc"
    other.mkdir()
    with placing(output, replace=False, is_ours=ours):
        assert not dead.exists()
    assert names(output.parent) == [".other-abc", "output"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_folder_takes_the_place_of_a_former_one(
    former: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        libc = SimpleNamespace(renameat2=lambda *names: -1)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: libc)
    with placing(former, replace=True, is_ours=ours) as folder:
        (folder / "new").touch()
        assert names(former) == ["ours"]
    assert names(former) == ["new"]
    assert names(former.parent) == ["output"]


def test_former_folder_stays_when_the_block_fails(former: Path) -> None:
    with pytest.raises(ZeroDivisionError), placing(former, replace=True, is_ours=ours):
        raise ZeroDivisionError
    assert names(former) == ["ours"]
    assert names(former.parent) == ["output"]


def test_exchange_is_one_step(former: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody finds the place empty, so that the second way is for other file systems only."""
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("renamed in two steps"))
    with placing(former, replace=True, is_ours=ours) as folder:
        (folder / "new").touch()
    assert names(former) == ["new"]


def test_folder_that_exists_is_refused_without_replace(former: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        require_place(former, replace=False, is_ours=ours)
    with (
        pytest.raises(OutputError, match="exists"),
        placing(former, replace=False, is_ours=ours),
    ):
        pytest.fail("it was let in")


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_an_export_is_never_replaced(output: Path, kind: str) -> None:
    output.parent.mkdir()
    if kind == "folder":
        output.mkdir()
        (output / "precious").touch()
    elif kind == "file":
        output.touch()
    else:
        output.symlink_to("nowhere")
    with pytest.raises(OutputError, match="is not an exported repository"):
        require_place(output, replace=True, is_ours=ours)
    assert os.path.lexists(output)


def test_empty_folder_is_a_free_place(output: Path) -> None:
    output.mkdir(parents=True)
    with placing(output, replace=False, is_ours=ours) as folder:
        (folder / "file").touch()
    assert names(output) == ["file"]


@pytest.mark.parametrize("replace", [False, True])
def test_place_that_was_taken_meanwhile(output: Path, replace: bool) -> None:
    """Without ``replace`` what came first stays."""
    expected = (
        contextlib.nullcontext() if replace else pytest.raises(OutputError, match="meanwhile")
    )
    with expected, placing(output, replace=replace, is_ours=ours) as folder:
        (folder / "mine").touch()
        output.mkdir()
        (output / "other").touch()
    assert names(output) == (["mine"] if replace else ["other"])
    assert names(output.parent) == ["output"]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "output"
    with (
        pytest.raises(OutputError, match=r"output cannot be written: "),
        placing(output, replace=False, is_ours=ours),
    ):
        pytest.fail("it was let in")


def test_folders_above_the_output_are_created(tmp_path: Path) -> None:
    output = tmp_path / "one" / "two" / "output"
    with placing(output, replace=False, is_ours=ours):
        pass
    assert output.is_dir()
