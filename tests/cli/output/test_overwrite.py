"""``--overwrite`` replaces the file that was named, and no other one."""

from __future__ import annotations


def test_overwrite_without_a_name_replaces_no_file(call, out):
    out.mkdir()
    former = out / "a-red-circle-moves-right.mp4"
    former.write_text("old")
    assert call("-q", "--overwrite").code == 0
    assert former.read_text() == "old"
    assert len(list(out.iterdir())) == 2
