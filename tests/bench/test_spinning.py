"""The table of settings of spinning threads, and the conditions that they are measured in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.lib.busy_machine import control_group
from bench.spinning import DEFAULT, HEADER, SIDES, row


@pytest.mark.parametrize(("own", "met"), [(1.0, "yes"), (1.29, "yes"), (1.4, "NO")])
def test_the_default_may_be_a_little_slower_than_the_best(own: float, met: str) -> None:
    times = {side: [2.0, 1.0, 1.0] for side in SIDES} | {DEFAULT: [own] * 3}
    cells = row("quiet", times)
    assert len(cells) == len(HEADER)
    assert cells[0] == "quiet"
    assert cells[-3:] == [f"{own:.2f}", "<= 1.3", met]


@pytest.mark.parametrize(("quota", "written"), [(None, "-1"), (1.0, "100000"), (0.5, "50000")])
def test_a_control_group_has_the_quota_and_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float | None, written: str
) -> None:
    # The files of a real group vanish with it.
    monkeypatch.setattr(Path, "rmdir", lambda group: [each.unlink() for each in group.iterdir()])
    with control_group(quota, tmp_path):
        (group,) = tmp_path.iterdir()
        assert (group / "cpu.cfs_quota_us").read_text() == written
        assert (group / "cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "cgroup.procs").read_text() == str(os.getpid())
    assert list(group.iterdir()) == []
