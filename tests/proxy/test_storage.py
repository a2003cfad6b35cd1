"""The password of the database comes from its file and never appears in errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from pipeline.errors import InputError
from proxy.settings import WorkSettings
from proxy.storage import url_of

URL = "postgresql://triton@db:5433/videos?sslmode=require"


def test_password_file_may_hold_any_characters(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss:w/o%r d\n")
    settings = WorkSettings(database_url=URL, database_password_file=tmp_path / "password")
    read = make_url(url_of(settings))
    assert (read.password, read.username, read.host, read.port) == (
        "p@ss:w/o%r d",
        "triton",
        "db",
        5433,
    )
    assert dict(read.query) == {"sslmode": "require"}


def test_url_is_unchanged_without_a_password_file(tmp_path: Path) -> None:
    assert url_of(WorkSettings(database_url=URL)) == URL
    assert url_of(WorkSettings(data_path=tmp_path)) == f"sqlite:///{tmp_path}/jobs.sqlite"


@pytest.mark.parametrize(
    ("url", "content", "words"),
    [
        (None, "x", "SQLite has no password"),
        (URL, " \n", "holds no password"),
        (URL, None, "cannot be read"),
        ("postgresql://a:b:c@h:x/d", "secret", "cannot be read"),
    ],
)
def test_invalid_password_file_is_refused(
    tmp_path: Path, url: str | None, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "password").write_text(content)
    settings = WorkSettings(
        data_path=tmp_path, database_url=url, database_password_file=tmp_path / "password"
    )
    with pytest.raises(InputError, match=words) as caught:
        url_of(settings)
    assert "secret" not in str(caught.value)
