"""A server's shared memory is closed to other users, and no other file is changed."""

import stat
from pathlib import Path

from pipeline.triton.shared_memory import PREFIX_VARIABLE, close_to_others


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_only_regions_of_the_server_are_closed_to_other_users(tmp_path):
    for name in ("mine-1", "mine-2", "other-1"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    close_to_others({}, tmp_path)
    assert set(modes(tmp_path).values()) == {0o644}
    close_to_others({PREFIX_VARIABLE: "mine-"}, tmp_path)
    assert modes(tmp_path) == {"mine-1": 0o600, "mine-2": 0o600, "other-1": 0o644}
