"""The startup timeout of a server is that of the stages in its repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.runtime.kept_server import startup_timeout_of
from pipeline.settings import StageSettings


@pytest.mark.parametrize("seconds", [None, 7200.0])
def test_startup_timeout_is_that_of_the_stages(tmp_path: Path, seconds: float | None) -> None:
    given = {} if seconds is None else {"startup_timeout_s": seconds}
    folder = tmp_path / "dit" / "1"
    folder.mkdir(parents=True)
    StageSettings(checkpoint="/models/wan", **given).save(folder)
    assert startup_timeout_of(tmp_path) == (seconds or 1800)


def test_repository_without_our_stages_has_the_default(tmp_path: Path) -> None:
    assert startup_timeout_of(tmp_path) == 1800
